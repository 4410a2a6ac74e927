(** * Remedies

    What is stated.  What three remedies do to the gradient condition:

      T17  normalised pair: along g_w/‖g_w‖ - g_l/‖g_l‖ the chosen never falls and the rejected never rises, at any
           cosine.  Its ratio of weights is r*, the geometric centre of T11's band, and the only ratio that is safe at
           every cosine.  The mean of several such directions promises nothing for any one of their pairs;
      T18  token mask: if log π(y) is replaced by Σ_i u_i log p(y^i), the Gram matrix becomes a weighted sum over token
           pairs; if u keeps the contrast token alone, in a context that both responses share, it is T4's, so that
           equal weights separate;
      T19  likelihood term: the λ for which λ log π_w, added to a loss with d_w = d_l = d, makes the chosen rise and the
           rejected fall form an open interval, its ends in closed form; and which pairs a λ ≥ 0 can help.

    Scope.  Real arithmetic on Gram entries and token gradients; floating point is the tests' business.  The first two
    remedies are named in a paper that prints neither as code: what stands here is our reading of them.  T18's masks
    lie in [0, 1] and pay an L1 penalty: neither matters to the slopes, so weights u are any real numbers here.

    Name                             Meaning
    unit_w G, unit_l G               1/‖g_w‖ and 1/‖g_l‖, the weights of the normalised direction
    balanced_w, balanced_l G dw dl   weights of the same product d_w d_l, with the ratio r*
    masked_gram T T' u u' M N K      entries Σ_ij u_i u_j M_ij, Σ_ij u'_i u'_j N_ij, Σ_ij u_i u'_j K_ij
    masked_logprob V d r u W         Σ_i u_i log p(y^i) of response r in a linear softmax model
    masked_gradient V d W r u        Σ_i u_i g_i over its tokens' gradients
    masked_pair V d W w l u u'       Gram matrix of two masked gradients
    same_context V d w l k k'        token k of w and token k' of l have one context
    window_low, window_high G d      the two ends of T19's interval *)

From Coq Require Import Reals Lra Psatz Lia.
From Toymodel Require Import Sums Condition Softmax Slopes Entanglement SingleToken Groups.
Local Open Scope R_scope.

(** ** T17: the normalised pair *)

Definition unit_w (G : gram) := 1 / sqrt (ww G).
Definition unit_l (G : gram) := 1 / sqrt (ll G).

Theorem normalised_chosen_slope (G : gram) : 0 < ww G -> 0 < ll G ->
  chosen_slope G (unit_w G) (unit_l G) = sqrt (ww G) * (1 - cosine G).
Proof. intros; unfold unit_w, unit_l, chosen_slope; with_norms G a b; field; lra. Qed.

Theorem normalised_rejected_slope (G : gram) : 0 < ww G -> 0 < ll G ->
  rejected_slope G (unit_w G) (unit_l G) = - (sqrt (ll G) * (1 - cosine G)).
Proof. intros; unfold unit_w, unit_l, rejected_slope; with_norms G a b; field; lra. Qed.

Lemma fraction_lt_one_iff (n d : R) : 0 < d -> (n / d < 1 <-> n < d).
Proof. intros; replace 1 with (1 / 1) by field; rewrite fraction_lt_iff by lra; lra. Qed.

Lemma cosine_lt_one_iff (G : gram) : 0 < ww G -> 0 < ll G -> (cosine G < 1 <-> wl G < sqrt (ww G) * sqrt (ll G)).
Proof. intros; apply fraction_lt_one_iff, Rmult_lt_0_compat; now apply sqrt_lt_R0. Qed.

Theorem cosine_at_most_one (G : gram) : psd G -> 0 < ww G -> 0 < ll G -> cosine G <= 1.
Proof.
  intros (_ & _ & cauchy_schwarz) ? ?; with_norms G a b; rewrite wa, lb in cauchy_schwarz.
  assert (0 < a * b) by nra; apply (Rmult_le_reg_r (a * b)); [assumption |].
  replace (wl G / (a * b) * (a * b)) with (wl G) by (field; lra); nra.
Qed.

(** Chosen never down, rejected never up, at any cosine. *)
Theorem normalised_pair_never_displaces (G : gram) : psd G -> 0 < ww G -> 0 < ll G ->
  0 <= chosen_slope G (unit_w G) (unit_l G) /\ rejected_slope G (unit_w G) (unit_l G) <= 0.
Proof.
  intros G_psd ww_pos ll_pos; rewrite normalised_chosen_slope, normalised_rejected_slope by assumption.
  pose proof (cosine_at_most_one G G_psd ww_pos ll_pos).
  pose proof (sqrt_pos (ww G)); pose proof (sqrt_pos (ll G)); nra.
Qed.

(** And strictly, except for gradients of the same direction. *)
Theorem normalised_pair_separates_iff (G : gram) : 0 < ww G -> 0 < ll G ->
  (separates G (unit_w G) (unit_l G) <-> cosine G < 1).
Proof.
  intros; unfold separates; rewrite normalised_chosen_slope, normalised_rejected_slope by assumption.
  assert (0 < sqrt (ww G)) by now apply sqrt_lt_R0.
  assert (0 < sqrt (ll G)) by now apply sqrt_lt_R0.
  split; [intros [chosen_up _] | split]; nra.
Qed.

Theorem normalised_pair_separates_iff_not_parallel (G : gram) : 0 < wl G -> 0 < ww G -> 0 < ll G ->
  (separates G (unit_w G) (unit_l G) <-> wl G * wl G < ww G * ll G).
Proof.
  intros; rewrite normalised_pair_separates_iff, cosine_lt_one_iff by assumption; with_norms G a b.
  assert (0 < a * b) by nra; split; nra.
Qed.

(** Its ratio of weights is the centre of T11's band ([norm_ratio_is_geometric_mean_of_band]). *)
Theorem normalised_ratio_is_norm_ratio (G : gram) : 0 < ww G -> 0 < ll G -> unit_w G / unit_l G = norm_ratio G.
Proof. intros; unfold unit_w, unit_l; with_norms G a b; field; lra. Qed.

Theorem normalised_pair_separates_iff_centre_in_band (G : gram) : 0 < wl G -> 0 < ww G -> 0 < ll G ->
  (separates G (unit_w G) (unit_l G) <-> band_low G < norm_ratio G < band_high G).
Proof. intros; now rewrite normalised_pair_separates_iff_not_parallel, norm_ratio_in_band_iff_not_parallel. Qed.

(** No other ratio is safe at every cosine: a is ‖g_w‖ and b is ‖g_l‖. *)
Theorem only_the_norm_ratio_is_safe_at_every_cosine (a b dw dl : R) : 0 < a -> 0 < b -> 0 < dw -> 0 < dl ->
  ((forall c, - (a * b) < c < a * b -> separates (Gram (a * a) (b * b) c) dw dl) <-> dw / dl = b / a).
Proof.
  intros a_pos b_pos dw_pos dl_pos; assert (0 < a * b) by nra; unfold separates, chosen_slope, rejected_slope; simpl.
  assert (ratio : dw / dl = b / a <-> dw * a = dl * b).
  { split; intros equal; [| replace dw with (dl * b / a) by (rewrite <- equal; field; lra); field; lra].
    replace (dw * a) with (dw / dl * (a * dl)) by (field; lra); rewrite equal; field; lra. }
  rewrite ratio; split; [intros safe | intros equal c [_ c_below]; split].
  - (* Otherwise try the c at which the inequality that fails is an equality. *)
    destruct (Rtotal_order (dw * a) (dl * b)) as [less | [|more]]; [exfalso | assumption | exfalso].
    + assert (dw / dl * (a * a) < a * b).
      { replace (dw / dl * (a * a)) with (dw * a * a / dl) by (field; lra).
        apply Rmult_lt_reg_r with dl; [assumption |].
        replace (dw * a * a / dl * dl) with (dw * a * a) by (field; lra); nra. }
      assert (0 < dw / dl) by now apply Rdiv_lt_0_compat.
      destruct (safe (dw / dl * (a * a))) as [chosen_up _]; [nra |].
      replace (dl * (dw / dl * (a * a))) with (dw * (a * a)) in chosen_up by (field; lra); lra.
    + assert (dl / dw * (b * b) < a * b).
      { replace (dl / dw * (b * b)) with (dl * b * b / dw) by (field; lra).
        apply Rmult_lt_reg_r with dw; [assumption |].
        replace (dl * b * b / dw * dw) with (dl * b * b) by (field; lra); nra. }
      assert (0 < dl / dw) by now apply Rdiv_lt_0_compat.
      destruct (safe (dl / dw * (b * b))) as [_ rejected_down]; [nra |].
      replace (dw * (dl / dw * (b * b))) with (dl * (b * b)) in rejected_down by (field; lra); lra.
  - replace (dw * (a * a)) with (dl * (a * b)) by (transitivity (dw * a * a); [rewrite equal |]; ring); nra.
  - replace (dl * (b * b)) with (dw * (a * b)) by (transitivity (dl * b * b); [rewrite <- equal |]; ring); nra.
Qed.

(** *** Weights steered to the centre *)

Definition balanced_w (G : gram) (dw dl : R) := sqrt (dw * dl) * sqrt (norm_ratio G).
Definition balanced_l (G : gram) (dw dl : R) := sqrt (dw * dl) / sqrt (norm_ratio G).

Lemma norm_ratio_pos (G : gram) : 0 < ww G -> 0 < ll G -> 0 < norm_ratio G.
Proof. intros; with_norms G a b; now apply Rdiv_lt_0_compat. Qed.

Theorem balanced_weights_keep_the_product (G : gram) (dw dl : R) : 0 < ww G -> 0 < ll G -> 0 < dw -> 0 < dl ->
  balanced_w G dw dl * balanced_l G dw dl = dw * dl.
Proof.
  intros; assert (0 < sqrt (norm_ratio G)) by now apply sqrt_lt_R0, norm_ratio_pos.
  rewrite <- (sqrt_sqrt (dw * dl)) by nra; unfold balanced_w, balanced_l; field; lra.
Qed.

Theorem balanced_weights_have_the_norm_ratio (G : gram) (dw dl : R) : 0 < ww G -> 0 < ll G -> 0 < dw -> 0 < dl ->
  balanced_w G dw dl / balanced_l G dw dl = norm_ratio G.
Proof.
  intros; assert (0 < sqrt (norm_ratio G)) by now apply sqrt_lt_R0, norm_ratio_pos.
  assert (0 < sqrt (dw * dl)) by (apply sqrt_lt_R0; nra).
  transitivity (sqrt (norm_ratio G) * sqrt (norm_ratio G)); [unfold balanced_w, balanced_l; field; lra |].
  now apply sqrt_sqrt, Rlt_le, norm_ratio_pos.
Qed.

(** Any weights of that ratio take the normalised direction, up to a positive factor. *)
Theorem norm_ratio_takes_the_normalised_direction (G : gram) (dw dl : R) :
  0 < ww G -> 0 < ll G -> 0 < dl -> dw / dl = norm_ratio G ->
  dw = dl * sqrt (ll G) * unit_w G /\ dl = dl * sqrt (ll G) * unit_l G.
Proof.
  intros ? ? ? ratio; assert (dw = dl * norm_ratio G) as -> by (rewrite <- ratio; field; lra).
  unfold unit_w, unit_l; with_norms G a b; split; field; lra.
Qed.

Theorem norm_ratio_separates_iff (G : gram) (dw dl : R) :
  0 < ww G -> 0 < ll G -> 0 < dl -> dw / dl = norm_ratio G -> (separates G dw dl <-> cosine G < 1).
Proof.
  intros ww_pos ll_pos dl_pos ratio; rewrite <- normalised_pair_separates_iff by assumption.
  assert (0 < dl * sqrt (ll G)) as factor_pos by (apply Rmult_lt_0_compat; auto using sqrt_lt_R0).
  destruct (norm_ratio_takes_the_normalised_direction G dw dl) as [-> same]; auto.
  rewrite same at 2; generalize (dl * sqrt (ll G)), factor_pos; intros factor pos.
  unfold separates, chosen_slope, rejected_slope; split; intros [up down]; split; nra.
Qed.

Corollary balanced_weights_separate_iff (G : gram) (dw dl : R) : 0 < ww G -> 0 < ll G -> 0 < dw -> 0 < dl ->
  (separates G (balanced_w G dw dl) (balanced_l G dw dl) <-> cosine G < 1).
Proof.
  intros; apply norm_ratio_separates_iff; auto using balanced_weights_have_the_norm_ratio.
  apply Rdiv_lt_0_compat; apply sqrt_lt_R0; [nra | now apply norm_ratio_pos].
Qed.

(** *** In any space *)

Section AnySpace.
Variables (V : Type) (plus : V -> V -> V) (scale : R -> V -> V) (ip : V -> V -> R).
Hypothesis form : semi_inner_product plus scale ip.

Definition norm (v : V) := sqrt (ip v v).
Definition normalised_step (gw gl : V) := combined V plus scale (1 / norm gw) gw (- (1 / norm gl)) gl.

Theorem normalised_step_slopes (gw gl : V) : 0 < ip gw gw -> 0 < ip gl gl ->
  let cos := cosine (gram_of ip gw gl) in let step := normalised_step gw gl in
  ip gw step = norm gw * (1 - cos) /\ ip gl step = - (norm gl * (1 - cos)).
Proof.
  intros; destruct (slopes_along_the_step _ _ _ _ form gw gl (1 / norm gw) (1 / norm gl)) as [chosen rejected].
  unfold step, normalised_step; rewrite chosen, rejected.
  split; [apply (normalised_chosen_slope (gram_of ip gw gl)) | apply (normalised_rejected_slope (gram_of ip gw gl))];
    assumption.
Qed.

Theorem normalised_step_never_displaces (gw gl : V) : 0 < ip gw gw -> 0 < ip gl gl ->
  let step := normalised_step gw gl in 0 <= ip gw step /\ ip gl step <= 0.
Proof.
  intros; destruct (slopes_along_the_step _ _ _ _ form gw gl (1 / norm gw) (1 / norm gl)) as [chosen rejected].
  unfold step, normalised_step; rewrite chosen, rejected.
  apply (normalised_pair_never_displaces (gram_of ip gw gl)); auto using (gram_of_psd _ _ _ _ form).
Qed.

(** The step has length 0 only where the cosine is 1: unit vectors differ by as much as their directions do. *)
Theorem normalised_step_squared_length (gw gl : V) : 0 < ip gw gw -> 0 < ip gl gl ->
  let step := normalised_step gw gl in ip step step = 2 * (1 - cosine (gram_of ip gw gl)).
Proof.
  intros gw_some gl_some; destruct (normalised_step_slopes gw gl gw_some gl_some) as [chosen rejected].
  simpl; unfold normalised_step at 1; rewrite (ip_combine_left _ _ _ _ form), chosen, rejected.
  assert (0 < norm gw) by now apply sqrt_lt_R0.
  assert (0 < norm gl) by now apply sqrt_lt_R0.
  field; lra.
Qed.

End AnySpace.

(** *** A batch of normalised pairs

    g_w = (1, 0) and g_l = (3, 4); and (-3, 4) against (3, -4), which are opposite.  Alone, each pair's normalised step
    raises its chosen and lowers its rejected.  The mean of the two, (-2/5, 2/5), reverses the first pair. *)

Lemma sqrt_of_square (a s : R) : 0 <= a -> s = a * a -> sqrt s = a.
Proof. intros a_nonneg ->; now apply sqrt_square. Qed.

Example mean_of_normalised_pairs_reverses_one :
  let gw b := match b with 0%nat => (1, 0) | _ => (-3, 4) end in
  let gl b := match b with 0%nat => (3, 4) | _ => (3, -4) end in
  let alone b := normalised_step _ plane_plus plane_scale plane_ip (gw b) (gl b) in
  let mean := plane_scale (1 / 2) (plane_plus (alone 0%nat) (alone 1%nat)) in
  (forall b, 0 < plane_ip (gw b) (alone b) /\ plane_ip (gl b) (alone b) < 0)
  /\ plane_ip (gw 0%nat) mean < 0 < plane_ip (gl 0%nat) mean.
Proof.
  intros gw gl.
  assert (norm_w : forall b, norm _ plane_ip (gw b) = match b with 0%nat => 1 | _ => 5 end).
  { intros [|b]; unfold norm, plane_ip; simpl; apply sqrt_of_square; lra. }
  assert (norm_l : forall b, norm _ plane_ip (gl b) = 5).
  { intros [|b]; unfold norm, plane_ip; simpl; apply sqrt_of_square; lra. }
  unfold normalised_step; rewrite !norm_w, !norm_l; split; [intros b; rewrite norm_w, norm_l |].
  - destruct b as [|b]; unfold combined, plane_ip; simpl; lra.
  - unfold combined, plane_ip; simpl; lra.
Qed.

(** ** T18: weights on tokens *)

Definition masked_sum (T T' : nat) (u u' : nat -> R) (M : nat -> nat -> R) : R :=
  Σ_(i < T) Σ_(j < T') u i * u' j * M i j.

Definition masked_gram (T T' : nat) (u u' : nat -> R) (M N K : nat -> nat -> R) : gram :=
  Gram (masked_sum T T u u M) (masked_sum T' T' u' u' N) (masked_sum T T' u u' K).

(** In any space: where token i has the gradient g_i, that of the masked log-probability is Σ_i u_i g_i. *)
Lemma masked_derivative {E : Type} plus scale (ip : E -> E -> R)
  (T : nat) (u : nat -> R) (logps : nat -> R -> R) (g : nat -> E) (x : E) (t : R) :
  semi_inner_product plus scale ip -> (forall i, (i < T)%nat -> derivable_pt_lim (logps i) t (ip (g i) x)) ->
  derivable_pt_lim (fun t => Σ_(i < T) u i * logps i t) t (ip (weighted_sum plus scale T u g) x).
Proof.
  intros form tokens; rewrite (ip_weighted_sum_left _ _ _ _ form).
  apply (derivative_of_sum T (fun i t => u i * logps i t) (fun i => u i * ip (g i) x)); intros i i_lt.
  now apply (derivable_pt_lim_scal (logps i)), tokens.
Qed.

Lemma ip_of_masked_sums {E : Type} plus scale (ip : E -> E -> R) (T T' : nat) (u u' : nat -> R) (g g' : nat -> E) :
  semi_inner_product plus scale ip ->
  ip (weighted_sum plus scale T u g) (weighted_sum plus scale T' u' g') =
  masked_sum T T' u u' (fun i j => ip (g i) (g' j)).
Proof.
  intros form; rewrite (ip_weighted_sum_left _ _ _ _ form); apply sum_ext; intros i _.
  rewrite (ip_weighted_sum_right _ _ _ _ form), <- sum_scale; apply sum_ext; intros; ring.
Qed.

Theorem masked_gradients_have_masked_gram {E : Type} plus scale (ip : E -> E -> R)
  (T T' : nat) (u u' : nat -> R) (g g' : nat -> E) :
  semi_inner_product plus scale ip ->
  gram_of ip (weighted_sum plus scale T u g) (weighted_sum plus scale T' u' g') =
  masked_gram T T' u u' (gram_matrix ip g) (gram_matrix ip g') (fun i j => ip (g i) (g' j)).
Proof. intros form; unfold gram_of; now rewrite !(ip_of_masked_sums _ _ _ _ _ _ _ _ _ form). Qed.

Lemma masked_sum_ext (T T' : nat) (u u' : nat -> R) (M N : nat -> nat -> R) :
  (forall i j, M i j = N i j) -> masked_sum T T' u u' M = masked_sum T T' u u' N.
Proof. intros same; apply sum_ext; intros i _; apply sum_ext; intros j _; now rewrite same. Qed.

Lemma mask_keeping_one_token (T T' k k' : nat) (M : nat -> nat -> R) : (k < T)%nat -> (k' < T')%nat ->
  masked_sum T T' (is k) (is k') M = M k k'.
Proof.
  intros k_lt k'_lt; unfold masked_sum.
  rewrite (sum_ext T _ (fun i => is k i * M i k')); [now apply (sum_is T k (fun i => M i k')) |].
  intros i _; rewrite (sum_ext T' _ (fun j => is k' j * (is k i * M i j))) by (intros; ring).
  now apply (sum_is T' k' (fun j => is k i * M i j)).
Qed.

Theorem mask_keeping_one_token_each (T T' k k' : nat) (M N K : nat -> nat -> R) : (k < T)%nat -> (k' < T')%nat ->
  masked_gram T T' (is k) (is k') M N K = Gram (M k k) (N k' k') (K k k').
Proof. intros; unfold masked_gram; now rewrite !mask_keeping_one_token. Qed.

(** *** In a linear softmax model *)

Section LinearSoftmax.
Variables (V d : nat) (W : nat -> nat -> R).

Definition masked_logprob (r : response) (u : nat -> R) (W : nat -> nat -> R) : R :=
  Σ_(i < size r) u i * logp V (logits d W r i) (token r i).

Definition token_gradient (r : response) (i v k : nat) : R := residuals V d W r i v * feature r i k.

Definition masked_gradient (r : response) (u : nat -> R) : nat -> nat -> R :=
  weighted_sum matrix_plus matrix_scale (size r) u (token_gradient r).

Definition masked_pair (w l : response) (u u' : nat -> R) : gram :=
  gram_of (frobenius V d) (masked_gradient w u) (masked_gradient l u').

Lemma token_gradient_along (r : response) (i : nat) (D : nat -> nat -> R) :
  frobenius V d (token_gradient r i) D = dot V (residuals V d W r i) (logit_change d D r i).
Proof.
  apply sum_ext; intros v _; unfold token_gradient; rewrite dot_scale_left; unfold logit_change.
  now rewrite dot_symmetric.
Qed.

(** The gradient of the masked log-probability, as T1's is that of log π(y). *)
Theorem masked_gradient_is_the_gradient (r : response) (u : nat -> R) : in_vocabulary V r ->
  gradient_at matrix_plus matrix_scale (frobenius V d) (masked_logprob r u) W (masked_gradient r u).
Proof.
  intros y_lt D; unfold masked_logprob, masked_gradient.
  apply (masked_derivative _ _ _ (size r) u
           (fun i t => logp V (logits d (matrix_plus W (matrix_scale t D)) r i) (token r i))).
  - apply matrices_form.
  - intros i i_lt; rewrite token_gradient_along.
    pose proof (logp_derivative V (fun t => logits d (matrix_plus W (matrix_scale t D)) r i)
                  (logit_change d D r i) 0 (token r i) (y_lt i i_lt)) as slope.
    cbv beta in slope; rewrite matrix_step_zero in slope; apply slope; intros v _.
    eapply derivable_pt_lim_ext; [| apply affine_derivative].
    intros t; symmetry; apply logits_along.
Qed.

Lemma token_gradients_have_token_gram (w l : response) (i j : nat) :
  frobenius V d (token_gradient w i) (token_gradient l j) = token_gram V d W w l i j.
Proof.
  rewrite token_gradient_along; unfold token_gram, logit_change, token_gradient; rewrite <- dot_scale_right.
  apply sum_ext; intros v _; rewrite dot_scale_left, (dot_symmetric d (feature l j)); ring.
Qed.

(** T18: the masked Gram matrix is a weighted sum over T2's token pairs. *)
Theorem masked_pair_from_tokens (w l : response) (u u' : nat -> R) :
  masked_pair w l u u' =
  masked_gram (size w) (size l) u u' (token_gram V d W w w) (token_gram V d W l l) (token_gram V d W w l).
Proof.
  unfold masked_pair, masked_gradient; rewrite masked_gradients_have_masked_gram by apply matrices_form.
  unfold masked_gram; f_equal; apply masked_sum_ext; intros; apply token_gradients_have_token_gram.
Qed.

Theorem all_ones_mask_is_the_pair (w l : response) : masked_pair w l (fun _ => 1) (fun _ => 1) = pair_gram V d W w l.
Proof.
  rewrite masked_pair_from_tokens, pair_gram_from_tokens; unfold masked_gram, masked_sum.
  f_equal; apply sum_ext; intros i _; apply sum_ext; intros j _; ring.
Qed.

(** Token k of one response and token k' of the other stand in the same context: same features, same frozen logits. *)
Definition same_context (w l : response) (k k' : nat) : Prop :=
  (forall m, (m < d)%nat -> feature l k' m = feature w k m) /\
  (forall v, (v < V)%nat -> frozen l k' v = frozen w k v).

Lemma dot_ext (n : nat) (a b a' b' : nat -> R) :
  (forall i, (i < n)%nat -> a' i = a i) -> (forall i, (i < n)%nat -> b' i = b i) -> dot n a' b' = dot n a b.
Proof. intros first second; apply sum_ext; intros; now rewrite first, second. Qed.

Lemma softmax_ext (z z' : nat -> R) (v : nat) :
  (forall u, (u < V)%nat -> z' u = z u) -> (v < V)%nat -> softmax V z' v = softmax V z v.
Proof.
  intros same v_lt; unfold softmax, partition; rewrite same by assumption; f_equal.
  apply sum_ext; intros; now rewrite same.
Qed.

Lemma same_context_same_probabilities (w l : response) (k k' v : nat) : same_context w l k k' -> (v < V)%nat ->
  softmax V (logits d W l k') v = softmax V (logits d W w k) v.
Proof.
  intros [features frozen_logits] v_lt; apply softmax_ext; [| assumption]; intros u u_lt; unfold logits.
  rewrite frozen_logits by assumption; f_equal; now apply dot_ext.
Qed.

(** T18: whatever stands around it, the contrast token alone is T4's pair. *)
Theorem contrast_token_alone_is_single_token (w l : response) (k k' : nat) :
  (k < size w)%nat -> (k' < size l)%nat -> in_vocabulary V w -> in_vocabulary V l ->
  same_context w l k k' -> token w k <> token l k' ->
  let φ := feature w k in let p := softmax V (logits d W w k) in
  masked_pair w l (is k) (is k') = single_token (dot d φ φ) (dot V p p) (p (token w k)) (p (token l k')).
Proof.
  intros k_lt k'_lt w_in l_in context differ φ p.
  rewrite masked_pair_from_tokens, mask_keeping_one_token_each by assumption.
  rewrite !token_gram_in_probabilities by auto; cbv zeta; fold p φ; set (q := softmax V (logits d W l k')).
  assert (same : forall v, (v < V)%nat -> q v = p v).
  { intros; now apply same_context_same_probabilities. }
  destruct context as [features _].
  rewrite (dot_ext d φ φ (feature l k') (feature l k')), (dot_ext d φ φ φ (feature l k')) by auto.
  rewrite (dot_ext V p p q q), (dot_ext V p p p q), !same, !is_same, is_different by auto.
  unfold single_token; f_equal; ring.
Qed.

(** So equal weights, DPO's, raise the masked chosen and lower the masked rejected log-probability. *)
Theorem contrast_token_alone_is_separated (w l : response) (k k' : nat) (weight : R) :
  (k < size w)%nat -> (k' < size l)%nat -> in_vocabulary V w -> in_vocabulary V l ->
  same_context w l k k' -> token w k <> token l k' -> 0 < dot d (feature w k) (feature w k) -> 0 < weight ->
  separates (masked_pair w l (is k) (is k')) weight weight.
Proof.
  intros k_lt k'_lt w_in l_in context differ features weight_pos.
  rewrite contrast_token_alone_is_single_token by assumption.
  specialize (w_in k k_lt); specialize (l_in k' k'_lt).
  apply equal_weights_separate_softmax; auto; split; (apply softmax_pos || apply softmax_below_one); lia.
Qed.

End LinearSoftmax.

(** *** What the mask must do, and what it does not promise

    In these examples W = 0 and the probabilities are frozen, given as rows of a table. *)

Definition table_row (a b c e : R) (v : nat) : R := match v with 0%nat => a | 1%nat => b | 2%nat => c | _ => e end.

Definition nothing_learned (v k : nat) : R := 0.

Definition from_table (T : nat) (y : nat -> nat) (p φ : nat -> nat -> R) : response :=
  Response T y (fun i v => ln (p i v)) φ.

Lemma token_gram_from_table (V d T T' : nat) (y y' : nat -> nat) (p p' φ φ' : nat -> nat -> R) (i j : nat) :
  (forall v, (v < V)%nat -> 0 < p i v) -> sum V (p i) = 1 ->
  (forall v, (v < V)%nat -> 0 < p' j v) -> sum V (p' j) = 1 ->
  token_gram V d nothing_learned (from_table T y p φ) (from_table T' y' p' φ') i j
  = dot d (φ i) (φ' j) * dot V (fun v => is (y i) v - p i v) (fun v => is (y' j) v - p' j v).
Proof.
  intros positive total positive' total'.
  assert (frozen_only : forall r m v, (v < V)%nat ->
    softmax V (logits d nothing_learned r m) v = softmax V (frozen r m) v).
  { intros r m v v_lt; apply softmax_ext; [| assumption]; intros u _; unfold logits, dot, nothing_learned.
    rewrite sum_zero by (intros; ring); ring. }
  unfold token_gram; simpl; f_equal; apply dot_ext; intros v v_lt; unfold residuals, residual;
    rewrite frozen_only by assumption; simpl; now rewrite softmax_of_logarithms.
Qed.

Ltac table_entries :=
  unfold separates, chosen_slope, rejected_slope; rewrite !masked_pair_from_tokens;
  unfold masked_gram, masked_sum; simpl;
  rewrite !token_gram_from_table by
    (simpl; try lra; intros [|[|[|[|v]]]] v_lt; simpl; lra || lia);
  unfold dot, is; simpl; lra.

(** The shared context is needed: the token 0 of probability 9/10 against the token 1 in another context both fall. *)
Example contrast_token_in_different_contexts_can_be_displaced :
  let w := from_table 1 (fun _ => 0%nat) (fun _ => table_row (9 / 10) (1 / 100) (9 / 100) 0) (fun _ _ => 1) in
  let l := from_table 1 (fun _ => 1%nat) (fun _ => table_row (1 / 100) (1 / 100) (98 / 100) 0) (fun _ _ => 1) in
  let G := masked_pair 3 1 nothing_learned w l (is 0) (is 0) in
  chosen_slope G 1 1 < 0 /\ rejected_slope G 1 1 < 0.
Proof. intros w l G; unfold G, w, l; table_entries. Qed.

(** One shared token beside the contrast is enough to displace.  Features are orthonormal, one per position. *)
Example one_suffix_token_in_the_mask_can_displace :
  let p a b i := match i with 0%nat => table_row (9 / 10) (1 / 50) (1 / 25) (1 / 25) | _ => table_row a a b a end in
  let answer first a b := from_table 2 (fun i => match i with 0%nat => first | _ => 2%nat end) (p a b) is in
  let G u := masked_pair 4 2 nothing_learned (answer 0%nat (1 / 6) (1 / 2)) (answer 1%nat (49 / 150) (1 / 50)) u u in
  separates (G (is 0)) 1 1 /\ chosen_slope (G (fun _ => 1)) 1 1 < 0 /\ rejected_slope (G (fun _ => 1)) 1 1 < 0.
Proof. intros p answer G; unfold G, answer, p; table_entries. Qed.

(** The mask speaks of what it keeps alone: with one context and uniform probabilities, "0 1 1" against "1 1 1" with the
    first tokens kept is T4's pair, and yet its step lowers the whole chosen response, "1 1" more than "0" rises. *)
Example masked_out_tokens_can_make_the_response_fall :
  let answer first := from_table 3 (fun i => match i with 0%nat => first | _ => 1%nat end)
                        (fun _ => table_row (1 / 3) (1 / 3) (1 / 3) 0) (fun _ _ => 1) in
  let kept u first := masked_gradient 3 1 nothing_learned (answer first) u in
  let step := combined _ matrix_plus matrix_scale 1 (kept (is 0) 0%nat) (-1) (kept (is 0) 1%nat) in
  0 < frobenius 3 1 (kept (is 0) 0%nat) step /\ frobenius 3 1 (kept (is 0) 1%nat) step < 0
  /\ frobenius 3 1 (kept (fun _ => 1) 0%nat) step < 0.
Proof.
  intros answer kept step; unfold step; rewrite !(ip_combine_right _ _ _ _ (matrices_form 3 1)).
  unfold kept, masked_gradient; rewrite !(ip_of_masked_sums _ _ _ _ _ _ _ _ _ (matrices_form 3 1)).
  rewrite !(masked_sum_ext _ _ _ _ _ _ (token_gradients_have_token_gram 3 1 nothing_learned _ _)).
  unfold masked_sum, answer; simpl.
  rewrite !token_gram_from_table by
    (simpl; try lra; intros [|[|[|[|v]]]] v_lt; simpl; lra || lia).
  unfold dot, is; simpl; lra.
Qed.

(** ** T19: how much likelihood term

    The loss -(m + λ log π_w) with m'h_w' = m'h_l' = d has the weights d_w = d + λ and d_l = d. *)

Definition window_low (G : gram) (d : R) := d * (wl G / ww G - 1).
Definition window_high (G : gram) (d : R) := d * (ll G / wl G - 1).

(** Each slope grows or falls with λ along a line, with its zero at an end of the window. *)
Lemma chosen_slope_with_likelihood (G : gram) (d λ : R) : 0 < ww G ->
  chosen_slope G (d + λ) d = ww G * (λ - window_low G d).
Proof. intros; unfold chosen_slope, window_low; field; lra. Qed.

Lemma rejected_slope_with_likelihood (G : gram) (d λ : R) : wl G <> 0 ->
  rejected_slope G (d + λ) d = wl G * (λ - window_high G d).
Proof. intros; unfold rejected_slope, window_high; field; lra. Qed.

(** For every real λ, also those below -d, where d_w is negative. *)
Theorem likelihood_separates_iff (G : gram) (d λ : R) : 0 < wl G -> 0 < ww G ->
  (separates G (d + λ) d <-> window_low G d < λ < window_high G d).
Proof.
  intros; unfold separates; rewrite chosen_slope_with_likelihood, rejected_slope_with_likelihood by lra; split; nra.
Qed.

(** Without entanglement only the lower end matters. *)
Theorem likelihood_separates_iff_unless_entangled (G : gram) (d λ : R) :
  psd G -> wl G <= 0 -> 0 < ww G -> 0 < ll G -> 0 < d ->
  (separates G (d + λ) d <-> window_low G d < λ).
Proof.
  intros (_ & _ & cauchy_schwarz) apart ww_pos ll_pos d_pos; unfold separates.
  rewrite chosen_slope_with_likelihood by assumption.
  split; [intros [chosen_up _]; nra | intros enough; split; [nra |]].
  assert (chosen_up : 0 < chosen_slope G (d + λ) d) by (rewrite chosen_slope_with_likelihood by assumption; nra).
  unfold chosen_slope in chosen_up; unfold rejected_slope; destruct apart as [apart | ->]; [| nra].
  apply (Rmult_lt_reg_r (ww G)); [assumption |]; nra.
Qed.

(** *** The window's length *)

Lemma window_length (G : gram) (d : R) : 0 < wl G -> 0 < ww G ->
  (window_high G d - window_low G d) * (ww G * wl G) = d * (ww G * ll G - wl G * wl G).
Proof. intros; unfold window_high, window_low; field; lra. Qed.

Theorem window_length_by_cosine (G : gram) (d : R) : 0 < wl G -> 0 < ww G -> 0 < ll G ->
  window_high G d - window_low G d = d * (norm_ratio G * (1 / cosine G - cosine G)).
Proof. intros; unfold window_high, window_low; with_norms G a b; field; lra. Qed.

Theorem window_open_iff_not_parallel (G : gram) (d : R) : 0 < wl G -> 0 < ww G -> 0 < d ->
  (window_low G d < window_high G d <-> wl G * wl G < ww G * ll G).
Proof.
  intros wl_pos ww_pos d_pos; pose proof (window_length G d wl_pos ww_pos); assert (0 < ww G * wl G) by nra.
  split; intros; apply Rminus_lt; nra.
Qed.

Lemma window_ends_ordered (G : gram) (d : R) : psd G -> 0 < wl G -> 0 < ww G -> 0 < d ->
  window_low G d <= window_high G d.
Proof.
  intros (_ & _ & cauchy_schwarz) wl_pos ww_pos d_pos; pose proof (window_length G d wl_pos ww_pos).
  assert (0 < ww G * wl G) by nra.
  apply Rminus_le; nra.
Qed.

(** Too little leaves the chosen falling, too much lifts the rejected as well. *)
Theorem too_little_likelihood_lowers_both (G : gram) (d λ : R) : psd G -> 0 < wl G -> 0 < ww G -> 0 < d ->
  λ < window_low G d -> chosen_slope G (d + λ) d < 0 /\ rejected_slope G (d + λ) d < 0.
Proof.
  intros; assert (window_low G d <= window_high G d) by now apply window_ends_ordered.
  rewrite chosen_slope_with_likelihood, rejected_slope_with_likelihood by lra; split; nra.
Qed.

Theorem too_much_likelihood_lifts_both (G : gram) (d λ : R) : psd G -> 0 < wl G -> 0 < ww G -> 0 < d ->
  window_high G d < λ -> 0 < chosen_slope G (d + λ) d /\ 0 < rejected_slope G (d + λ) d.
Proof.
  intros; assert (window_low G d <= window_high G d) by now apply window_ends_ordered.
  rewrite chosen_slope_with_likelihood, rejected_slope_with_likelihood by lra; split; nra.
Qed.

(** *** Terms that can be added: λ at least 0 *)

Theorem no_likelihood_term_helps (G : gram) (d λ : R) : 0 < wl G -> 0 < ww G -> 0 < d ->
  ll G <= wl G -> 0 <= λ -> ~ separates G (d + λ) d.
Proof. unfold separates, rejected_slope; intros ? ? ? ? ? [_ rejected_down]; nra. Qed.

(** That is where both rise already, without any term. *)
Theorem both_rise_already (G : gram) (d : R) : psd G -> 0 < ll G -> 0 < d -> ll G <= wl G ->
  0 <= chosen_slope G d d /\ 0 <= rejected_slope G d d.
Proof.
  intros (ww_nonneg & _ & cauchy_schwarz) ? ? ?; unfold chosen_slope, rejected_slope.
  assert (wl G <= ww G) by (apply Rnot_lt_le; intros less; assert (ww G * ll G < wl G * ll G) by nra; nra).
  split; nra.
Qed.

(** Which pairs some term helps: all those with ⟨g_w, g_l⟩ < ‖g_l‖², unless the gradients have one direction. *)
Theorem some_likelihood_term_helps_iff (G : gram) (d : R) : psd G -> 0 < ww G -> 0 < ll G -> 0 < d ->
  ((exists λ, 0 <= λ /\ separates G (d + λ) d) <-> wl G < ll G /\ cosine G < 1).
Proof.
  intros G_psd ww_pos ll_pos d_pos; destruct (Rle_lt_dec (wl G) 0) as [apart | entangled].
  - split; intros _.
    + rewrite cosine_lt_one_iff by assumption.
      assert (0 < sqrt (ww G) * sqrt (ll G)) by (apply Rmult_lt_0_compat; now apply sqrt_lt_R0); lra.
    + exists (Rmax 0 (window_low G d + 1)); split; [apply Rmax_l |].
      apply likelihood_separates_iff_unless_entangled; auto.
      pose proof (Rmax_r 0 (window_low G d + 1)); lra.
  - rewrite <- normalised_pair_separates_iff, normalised_pair_separates_iff_not_parallel by assumption.
    rewrite <- (window_open_iff_not_parallel G d) by assumption.
    assert (above : window_high G d * wl G = d * (ll G - wl G)) by (unfold window_high; field; lra).
    split.
    + intros (λ & λ_nonneg & [low high]%likelihood_separates_iff); auto; split; [nra | lra].
    + intros [room open]; set (low := Rmax 0 (window_low G d)).
      assert (low < window_high G d) by (apply Rmax_lub_lt; nra).
      exists ((low + window_high G d) / 2); rewrite likelihood_separates_iff by assumption.
      pose proof (Rmax_l 0 (window_low G d)); pose proof (Rmax_r 0 (window_low G d)); unfold low in *; lra.
Qed.

(** g_l = 2 g_w: no term of any sign helps. *)
Example parallel_gradients_have_no_window (λ : R) : let G := Gram 1 4 2 in
  psd G /\ ~ separates G (1 + λ) 1.
Proof. unfold psd, separates, chosen_slope, rejected_slope; simpl; lra. Qed.

(** Both rise: no term helps, and to take some likelihood away would. *)
Example a_negative_term_may_help_where_no_positive_one_does : let G := Gram 5 2 3 in
  psd G /\ separates G (1 + - (7 / 20)) 1 /\ forall λ, 0 <= λ -> ~ separates G (1 + λ) 1.
Proof.
  unfold psd, separates, chosen_slope, rejected_slope; simpl; repeat split; try lra.
  intros λ nonneg; lra.
Qed.
