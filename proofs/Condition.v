(** * The gradient condition

    What is stated.  A step of a margin loss moves the parameters along d_w g_w - d_l g_l, where g_w and g_l are the
    gradients of the log-probabilities of the chosen and the rejected response.  To first order the two
    log-probabilities change by the two slopes below, so three inner products decide which of them rises:

      T9   the slopes, and the margin that never falls when both weights are equal;
      T10  chosen up and rejected down, both down, both up, each as an "if and only if"; and why the fourth
           combination, chosen down and rejected up, never happens, with or without a preconditioner;
      T11  the band of weight ratios d_w / d_l for which the chosen rises and the rejected falls.

    Scope.  Real arithmetic on the entries of a Gram matrix; floating point is the tests' business, and so is the
    claim that a slope is the derivative of a model's log-probability.

    Name                   Meaning
    ww G, ll G, wl G       ‖g_w‖², ‖g_l‖², ⟨g_w, g_l⟩: the entries of the pair's Gram matrix G
    dw, dl                 the weights d_w, d_l the loss puts on the two gradients
    chosen_slope G dw dl   first-order change of the chosen log-probability per unit of step size
    rejected_slope G dw dl the same for the rejected one
    psd G                  G is positive semidefinite, which is Cauchy–Schwarz for the two gradients
    separates G dw dl      chosen up and rejected down
    cosine G               cosine of the angle between g_w and g_l
    norm_ratio G           r* = ‖g_l‖ / ‖g_w‖
    band_low, band_high    the two ends of T11's band *)

From Coq Require Import Reals Lra Psatz.
Local Open Scope R_scope.

Record gram := Gram { ww : R; ll : R; wl : R }.

Definition psd (G : gram) := 0 <= ww G /\ 0 <= ll G /\ wl G * wl G <= ww G * ll G.

Definition chosen_slope (G : gram) (dw dl : R) := dw * ww G - dl * wl G.
Definition rejected_slope (G : gram) (dw dl : R) := dw * wl G - dl * ll G.

Definition separates (G : gram) (dw dl : R) := 0 < chosen_slope G dw dl /\ rejected_slope G dw dl < 0.

(** ** T9: the margin *)

Theorem margin_slope_equal_weights (G : gram) (d : R) :
  chosen_slope G d d - rejected_slope G d d = d * (ww G - 2 * wl G + ll G).
Proof. unfold chosen_slope, rejected_slope; ring. Qed.

(** The square of a difference, seen through its three inner products. *)
Lemma squared_difference_nonneg (a b c : R) : 0 <= a -> 0 <= b -> c * c <= a * b -> 0 <= a - 2 * c + b.
Proof.
  intros a_nonneg b_nonneg cauchy_schwarz.
  assert ((2 * c) * (2 * c) <= (a + b) * (a + b)) by (pose proof (Rle_0_sqr (a - b)); unfold Rsqr in *; lra).
  nra.
Qed.

Theorem margin_slope_nonneg (G : gram) (d : R) :
  psd G -> 0 <= d -> 0 <= chosen_slope G d d - rejected_slope G d d.
Proof.
  intros (ww_nonneg & ll_nonneg & cauchy_schwarz) d_nonneg.
  rewrite margin_slope_equal_weights.
  apply Rmult_le_pos; [assumption | now apply squared_difference_nonneg].
Qed.

(** With unequal weights it is the weighted margin, ‖d_w g_w - d_l g_l‖², that never falls. *)
Theorem weighted_margin_slope_nonneg (G : gram) (dw dl : R) :
  psd G -> 0 <= dw * chosen_slope G dw dl - dl * rejected_slope G dw dl.
Proof.
  intros (ww_nonneg & ll_nonneg & cauchy_schwarz); unfold chosen_slope, rejected_slope.
  replace (_ - _) with (dw * dw * ww G - 2 * (dw * dl * wl G) + dl * dl * ll G) by ring.
  apply squared_difference_nonneg; [nra | nra |].
  replace (dw * dl * wl G * (dw * dl * wl G)) with ((dw * dl) * (dw * dl) * (wl G * wl G)) by ring.
  replace (dw * dw * ww G * (dl * dl * ll G)) with ((dw * dl) * (dw * dl) * (ww G * ll G)) by ring.
  apply Rmult_le_compat_l; [apply Rle_0_sqr | assumption].
Qed.

(** ** T10: the cases *)

Lemma lt_fraction_times (x n d y : R) : 0 < d -> (x < n / d * y <-> d * x < n * y).
Proof. intros d_pos; replace (n * y) with (d * (n / d * y)) by (field; lra); split; nra. Qed.

Lemma fraction_times_lt (x n d y : R) : 0 < d -> (n / d * y < x <-> n * y < d * x).
Proof. intros d_pos; replace (n * y) with (d * (n / d * y)) by (field; lra); split; nra. Qed.

Lemma chosen_up_iff (G : gram) (dw dl : R) : 0 < dl -> (0 < chosen_slope G dw dl <-> wl G < dw / dl * ww G).
Proof. intros; rewrite lt_fraction_times by assumption; unfold chosen_slope; split; lra. Qed.

Lemma chosen_down_iff (G : gram) (dw dl : R) : 0 < dl -> (chosen_slope G dw dl < 0 <-> dw / dl * ww G < wl G).
Proof. intros; rewrite fraction_times_lt by assumption; unfold chosen_slope; split; lra. Qed.

Lemma rejected_down_iff (G : gram) (dw dl : R) : 0 < dw -> (rejected_slope G dw dl < 0 <-> wl G < dl / dw * ll G).
Proof. intros; rewrite lt_fraction_times by assumption; unfold rejected_slope; split; lra. Qed.

Lemma rejected_up_iff (G : gram) (dw dl : R) : 0 < dw -> (0 < rejected_slope G dw dl <-> dl / dw * ll G < wl G).
Proof. intros; rewrite fraction_times_lt by assumption; unfold rejected_slope; split; lra. Qed.

Theorem chosen_up_rejected_down_iff (G : gram) (dw dl : R) : 0 < dw -> 0 < dl ->
  (separates G dw dl <-> wl G < Rmin (dw / dl * ww G) (dl / dw * ll G)).
Proof.
  intros; unfold separates; rewrite chosen_up_iff, rejected_down_iff by assumption.
  symmetry; apply Rmin_Rgt.
Qed.

Theorem both_down_iff (G : gram) (dw dl : R) : 0 < dw -> 0 < dl ->
  (chosen_slope G dw dl < 0 /\ rejected_slope G dw dl < 0 <-> dw / dl * ww G < wl G < dl / dw * ll G).
Proof. intros; now rewrite chosen_down_iff, rejected_down_iff by assumption. Qed.

Theorem both_up_iff (G : gram) (dw dl : R) : 0 < dw -> 0 < dl ->
  (0 < chosen_slope G dw dl /\ 0 < rejected_slope G dw dl <-> dl / dw * ll G < wl G < dw / dl * ww G).
Proof. intros; rewrite chosen_up_iff, rejected_up_iff by assumption; tauto. Qed.

Theorem rejected_up_only_if_chosen_up (G : gram) (dw dl : R) : psd G -> 0 < dw -> 0 < dl ->
  0 < rejected_slope G dw dl -> 0 < chosen_slope G dw dl.
Proof. intros G_psd ? ? ?; pose proof (weighted_margin_slope_nonneg G dw dl G_psd); nra. Qed.

Theorem chosen_down_only_if_rejected_down (G : gram) (dw dl : R) : psd G -> 0 < dw -> 0 < dl ->
  chosen_slope G dw dl < 0 -> rejected_slope G dw dl < 0.
Proof. intros G_psd ? ? ?; pose proof (weighted_margin_slope_nonneg G dw dl G_psd); nra. Qed.

Theorem chosen_down_rejected_up_never (G : gram) (dw dl : R) : psd G -> 0 < dw -> 0 < dl ->
  ~ (chosen_slope G dw dl < 0 /\ 0 < rejected_slope G dw dl).
Proof. intros ? ? ? [? rejected_up]; apply rejected_up_only_if_chosen_up in rejected_up; auto; lra. Qed.

(** Slopes that are exactly zero included: whatever the gradients, one of three cases holds. *)
Theorem three_cases_only (G : gram) (dw dl : R) : psd G -> 0 < dw -> 0 < dl ->
  separates G dw dl
  \/ (chosen_slope G dw dl <= 0 /\ rejected_slope G dw dl <= 0)
  \/ (0 <= chosen_slope G dw dl /\ 0 <= rejected_slope G dw dl).
Proof.
  intros G_psd dw_pos dl_pos; unfold separates.
  pose proof (rejected_up_only_if_chosen_up G dw dl G_psd dw_pos dl_pos) as rejected_up.
  destruct (Rle_lt_dec (rejected_slope G dw dl) 0) as [|chosen_up%rejected_up]; lra.
Qed.

(** Each of the other two cases does occur, already with equal weights. *)
Example both_down_occurs : let G := Gram 2 5 3 in
  psd G /\ chosen_slope G 1 1 < 0 /\ rejected_slope G 1 1 < 0.
Proof. unfold psd, chosen_slope, rejected_slope; simpl; lra. Qed.

Example both_up_occurs : let G := Gram 5 2 3 in
  psd G /\ 0 < chosen_slope G 1 1 /\ 0 < rejected_slope G 1 1.
Proof. unfold psd, chosen_slope, rejected_slope; simpl; lra. Qed.

(** Both weights must be positive: g_w = (-2, 1) and g_l = (1, 0) with d_w = -1, or the two exchanged with d_l = -1. *)
Example negative_chosen_weight_allows_it : let G := Gram 5 1 (-2) in
  psd G /\ chosen_slope G (-1) 1 < 0 /\ 0 < rejected_slope G (-1) 1.
Proof. unfold psd, chosen_slope, rejected_slope; simpl; lra. Qed.

Example negative_rejected_weight_allows_it : let G := Gram 1 5 (-2) in
  psd G /\ chosen_slope G 1 (-1) < 0 /\ 0 < rejected_slope G 1 (-1).
Proof. unfold psd, chosen_slope, rejected_slope; simpl; lra. Qed.

(** ** T9 and T10 for gradients in any space

    V is any set with a sum and multiples, ip any symmetric, bilinear, positive semidefinite form on it.  (Linearity in
    the second argument follows from symmetry; no other vector space law is needed.) *)

Record semi_inner_product {V : Type} (plus : V -> V -> V) (scale : R -> V -> V) (ip : V -> V -> R) : Prop := {
  symmetric : forall u v, ip u v = ip v u;
  additive : forall u v x, ip (plus u v) x = ip u x + ip v x;
  homogeneous : forall a u v, ip (scale a u) v = a * ip u v;
  nonnegative : forall v, 0 <= ip v v }.

Example plane_is_such_a_space :
  semi_inner_product (fun u v => (fst u + fst v, snd u + snd v)) (fun a v => (a * fst v, a * snd v))
                     (fun u v => fst u * fst v + snd u * snd v).
Proof. split; intros; simpl; nra. Qed.

Definition gram_of {V : Type} (ip : V -> V -> R) (gw gl : V) := Gram (ip gw gw) (ip gl gl) (ip gw gl).

(** A quadratic form in two numbers that is never negative has no positive discriminant. *)
Lemma discriminant (p q r : R) : (forall a b, 0 <= a * a * p + 2 * a * b * q + b * b * r) -> q * q <= p * r.
Proof.
  intros square; destruct (Rle_lt_dec (q * q) (p * r)) as [|too_large]; [assumption | exfalso].
  assert (p = 0) by (pose proof (square 1 0); pose proof (square q (- p)); nra).
  assert (r = 0) by (pose proof (square 0 1); pose proof (square r (- q)); nra).
  pose proof (square 1 1); pose proof (square 1 (-1)); nra.
Qed.

Section AnySpace.
Variables (V : Type) (plus : V -> V -> V) (scale : R -> V -> V) (ip : V -> V -> R).
Hypothesis form : semi_inner_product plus scale ip.

Definition combined (a : R) (u : V) (b : R) (v : V) := plus (scale a u) (scale b v).

Lemma ip_combine_left (a b : R) (u v x : V) : ip (combined a u b v) x = a * ip u x + b * ip v x.
Proof. unfold combined; now rewrite (additive _ _ _ form), !(homogeneous _ _ _ form). Qed.

Lemma ip_combine_right (a b : R) (u v x : V) : ip x (combined a u b v) = a * ip x u + b * ip x v.
Proof. now rewrite (symmetric _ _ _ form), ip_combine_left, !(symmetric _ _ _ form _ x). Qed.

Theorem cauchy_schwarz (u v : V) : ip u v * ip u v <= ip u u * ip v v.
Proof.
  apply discriminant; intros a b.
  pose proof (nonnegative _ _ _ form (combined a u b v)) as square.
  rewrite ip_combine_left, !ip_combine_right, (symmetric _ _ _ form v u) in square; lra.
Qed.

Theorem gram_of_psd (gw gl : V) : psd (gram_of ip gw gl).
Proof. repeat split; simpl; try apply (nonnegative _ _ _ form); apply cauchy_schwarz. Qed.

(** T9: each slope is the inner product of that response's gradient with the step d_w g_w - d_l g_l. *)
Theorem slopes_along_the_step (gw gl : V) (dw dl : R) :
  let G := gram_of ip gw gl in let step := combined dw gw (- dl) gl in
  ip gw step = chosen_slope G dw dl /\ ip gl step = rejected_slope G dw dl.
Proof.
  unfold chosen_slope, rejected_slope; simpl.
  rewrite !ip_combine_right, (symmetric _ _ _ form gl gw); split; ring.
Qed.

Theorem margin_slope_is_squared_distance (gw gl : V) (d : R) :
  let G := gram_of ip gw gl in let difference := combined 1 gw (-1) gl in
  chosen_slope G d d - rejected_slope G d d = d * ip difference difference.
Proof.
  unfold chosen_slope, rejected_slope; simpl.
  rewrite ip_combine_left, !ip_combine_right, (symmetric _ _ _ form gl gw); ring.
Qed.

Theorem chosen_down_rejected_up_never_in_any_space (gw gl : V) (dw dl : R) : 0 < dw -> 0 < dl ->
  let G := gram_of ip gw gl in ~ (chosen_slope G dw dl < 0 /\ 0 < rejected_slope G dw dl).
Proof. intros; now apply chosen_down_rejected_up_never; [apply gram_of_psd | |]. Qed.

End AnySpace.

(** A preconditioner P that is self-adjoint and positive semidefinite turns ⟨u, v⟩ into ⟨u, P v⟩, one more such form. *)
Lemma preconditioned_form {V : Type} plus scale (ip : V -> V -> R) (P : V -> V) :
  semi_inner_product plus scale ip ->
  (forall u v, ip (P u) v = ip u (P v)) -> (forall v, 0 <= ip v (P v)) ->
  semi_inner_product plus scale (fun u v => ip u (P v)).
Proof.
  intros [sym add hom _] self_adjoint positive; split; intros; auto.
  now rewrite sym, self_adjoint.
Qed.

Theorem chosen_down_rejected_up_never_preconditioned {V : Type} plus scale (ip : V -> V -> R) (P : V -> V)
  (gw gl : V) (dw dl : R) :
  semi_inner_product plus scale ip ->
  (forall u v, ip (P u) v = ip u (P v)) -> (forall v, 0 <= ip v (P v)) -> 0 < dw -> 0 < dl ->
  let G := gram_of (fun u v => ip u (P v)) gw gl in ~ (chosen_slope G dw dl < 0 /\ 0 < rejected_slope G dw dl).
Proof.
  intros; apply (chosen_down_rejected_up_never_in_any_space _ plus scale); auto using preconditioned_form.
Qed.

(** ** T11: the band of weight ratios *)

Definition cosine (G : gram) := wl G / (sqrt (ww G) * sqrt (ll G)).
Definition norm_ratio (G : gram) := sqrt (ll G) / sqrt (ww G).
Definition band_low (G : gram) := wl G / ww G.
Definition band_high (G : gram) := ll G / wl G.

Lemma fraction_lt_iff (a b c d : R) : 0 < b -> 0 < d -> (a / b < c / d <-> a * d < c * b).
Proof.
  intros b_pos d_pos.
  replace (a * d) with (a / b * (b * d)) by (field; lra); replace (c * b) with (c / d * (b * d)) by (field; lra).
  assert (0 < b * d) by nra; split; nra.
Qed.

Theorem separates_iff_ratio_in_band (G : gram) (dw dl : R) : 0 < wl G -> 0 < ww G -> 0 < dw -> 0 < dl ->
  (separates G dw dl <-> band_low G < dw / dl < band_high G).
Proof.
  intros; unfold separates, chosen_slope, rejected_slope, band_low, band_high.
  rewrite !fraction_lt_iff by assumption; lra.
Qed.

Theorem every_ratio_separates_unless_entangled (G : gram) (dw dl : R) :
  wl G <= 0 -> 0 < ww G -> 0 < ll G -> 0 < dw -> 0 < dl -> separates G dw dl.
Proof. intros; unfold separates, chosen_slope, rejected_slope; split; nra. Qed.

(** The two norms as square roots, the form in which the cosine and r* mention them. *)
Lemma norms_of_entries (G : gram) : 0 < ww G -> 0 < ll G ->
  exists a b, 0 < a /\ 0 < b /\ sqrt (ww G) = a /\ sqrt (ll G) = b /\ ww G = a * a /\ ll G = b * b.
Proof.
  intros; exists (sqrt (ww G)), (sqrt (ll G)).
  repeat split; auto using sqrt_lt_R0; symmetry; apply sqrt_sqrt; lra.
Qed.

Ltac with_norms G a b :=
  destruct (norms_of_entries G) as (a & b & ? & ? & ra & rb & wa & lb); try assumption;
  unfold cosine, norm_ratio, band_low, band_high; rewrite ?ra, ?rb, ?wa, ?lb.

Theorem band_low_is_cosine_times_norm_ratio (G : gram) : 0 < ww G -> 0 < ll G -> band_low G = cosine G * norm_ratio G.
Proof. intros; with_norms G a b; field; lra. Qed.

Theorem band_high_is_norm_ratio_over_cosine (G : gram) : 0 < wl G -> 0 < ww G -> 0 < ll G ->
  band_high G = norm_ratio G / cosine G.
Proof. intros; with_norms G a b; field; lra. Qed.

Theorem norm_ratio_is_geometric_mean_of_band (G : gram) : 0 < wl G -> 0 < ww G -> 0 < ll G ->
  band_low G * band_high G = norm_ratio G * norm_ratio G /\ band_low G * band_high G = ll G / ww G.
Proof. intros; with_norms G a b; split; field; lra. Qed.

Theorem band_width_is_inverse_squared_cosine (G : gram) : 0 < wl G -> 0 < ww G -> 0 < ll G ->
  band_high G / band_low G = 1 / (cosine G * cosine G).
Proof. intros; with_norms G a b; field; lra. Qed.

Theorem band_open_iff_not_parallel (G : gram) : 0 < wl G -> 0 < ww G ->
  (band_low G < band_high G <-> wl G * wl G < ww G * ll G).
Proof. intros; unfold band_low, band_high; rewrite fraction_lt_iff by assumption; lra. Qed.

Theorem norm_ratio_in_band_iff_not_parallel (G : gram) : 0 < wl G -> 0 < ww G -> 0 < ll G ->
  (band_low G < norm_ratio G < band_high G <-> wl G * wl G < ww G * ll G).
Proof.
  intros; with_norms G a b.
  rewrite !fraction_lt_iff by nra.
  transitivity (wl G < a * b).
  - split; [intros [_ ?] | intro; split]; nra.
  - assert (0 < a * b) by nra; split; nra.
Qed.
