(** * One differing token

    What is stated.  T4: the responses differ in one token, the two contexts share their features φ, and the last layer
    is a softmax with probabilities p.  Then the gradients are φ times the residuals e_w - p and e_l - p, and the
    pair's Gram matrix depends on four numbers only.  Margin losses with equal weights (DPO) always separate such a
    pair, and the two gradients point apart exactly when p_w + p_l > ‖p‖².

    Scope.  Real arithmetic on these four numbers, and any space with an inner product for the residuals; that a
    model's gradient has this form is the tests' business.

    Name                     Meaning
    f                        ‖φ‖² > 0, squared norm of the shared features
    s                        ‖p‖², sum of the squared probabilities
    pw, pl                   probabilities of the chosen and of the rejected token
    single_token f s pw pl   the Gram matrix of such a pair *)

From Coq Require Import Reals Lra Psatz.
From Toymodel Require Import Condition.
Local Open Scope R_scope.

Definition single_token (f s pw pl : R) :=
  Gram (f * (1 - 2 * pw + s)) (f * (1 - 2 * pl + s)) (f * (s - pw - pl)).

Ltac entries := unfold separates, chosen_slope, rejected_slope, single_token in *; simpl in *.

(** T4: these are the entries, from ⟨e_w, e_w⟩ = 1, ⟨e_w, e_l⟩ = 0, ⟨e_w, p⟩ = p_w and the like. *)
Theorem residuals_have_single_token_gram {V : Type} plus scale (ip : V -> V -> R) (ew el p : V) (f : R) :
  semi_inner_product plus scale ip -> ip ew ew = 1 -> ip el el = 1 -> ip ew el = 0 ->
  let residual token := combine V plus scale 1 token (-1) p in
  gram_of (fun u v => f * ip u v) (residual ew) (residual el) = single_token f (ip p p) (ip ew p) (ip el p).
Proof.
  intros form w_unit l_unit w_l; unfold gram_of, single_token; simpl.
  rewrite !(ip_combine_left _ _ _ _ form), !(ip_combine_right _ _ _ _ form).
  rewrite w_unit, l_unit, w_l, (symmetric _ _ _ form p ew), (symmetric _ _ _ form p el); f_equal; ring.
Qed.

(** T4: the two gaps, positive unless one of the two tokens already has probability 1 and the other 0. *)
Theorem chosen_gap (f s pw pl : R) : let G := single_token f s pw pl in ww G - wl G = f * (1 - pw + pl).
Proof. entries; ring. Qed.

Theorem rejected_gap (f s pw pl : R) : let G := single_token f s pw pl in ll G - wl G = f * (1 - pl + pw).
Proof. entries; ring. Qed.

Theorem gaps_positive (f s pw pl : R) : let G := single_token f s pw pl in
  0 < f -> pw - pl < 1 -> pl - pw < 1 -> wl G < ww G /\ wl G < ll G.
Proof. entries; split; nra. Qed.

Theorem squared_distance (f s pw pl : R) : let G := single_token f s pw pl in ww G - 2 * wl G + ll G = 2 * f.
Proof. entries; ring. Qed.

Theorem margin_slope (f s pw pl d : R) : let G := single_token f s pw pl in
  chosen_slope G d d - rejected_slope G d d = d * (2 * f).
Proof. intros G; now rewrite margin_slope_equal_weights; unfold G; rewrite squared_distance. Qed.

(** T4: DPO always separates one differing token. *)
Theorem equal_weights_separate (f s pw pl d : R) :
  0 < f -> pw - pl < 1 -> pl - pw < 1 -> 0 < d -> separates (single_token f s pw pl) d d.
Proof.
  intros f_pos w_room l_room d_pos.
  destruct (gaps_positive f s pw pl f_pos w_room l_room); unfold separates, chosen_slope, rejected_slope; nra.
Qed.

(** The same with the hypotheses a softmax gives: no token has probability 0 or 1. *)
Corollary equal_weights_separate_softmax (f s pw pl d : R) :
  0 < f -> 0 < pw < 1 -> 0 < pl < 1 -> 0 < d -> separates (single_token f s pw pl) d d.
Proof. intros; apply equal_weights_separate; lra. Qed.

(** T4: the sign of the cosine, and its value in two special cases. *)
Theorem inner_product_negative_iff (f s pw pl : R) : 0 < f -> (wl (single_token f s pw pl) < 0 <-> s < pw + pl).
Proof. entries; split; nra. Qed.

Lemma two_tokens_entries (f pw pl : R) : pw + pl = 1 ->
  single_token f (pw * pw + pl * pl) pw pl = Gram (2 * f * (pl * pl)) (2 * f * (pw * pw)) (- (2 * f * (pw * pl))).
Proof. intros total; replace pl with (1 - pw) by lra; unfold single_token; f_equal; ring. Qed.

Theorem two_tokens_parallel (f pw pl : R) : 0 < f -> 0 <= pw -> 0 <= pl -> pw + pl = 1 ->
  let G := single_token f (pw * pw + pl * pl) pw pl in wl G * wl G = ww G * ll G /\ wl G <= 0.
Proof.
  intros; unfold G; rewrite two_tokens_entries by assumption; simpl; split; [ring |].
  assert (0 <= f * (pw * pl)) by (repeat apply Rmult_le_pos; lra); lra.
Qed.

Lemma cosine_minus_one (G : gram) :
  0 < ww G -> 0 < ll G -> wl G <= 0 -> wl G * wl G = ww G * ll G -> cosine G = -1.
Proof.
  intros ? ? ? parallel; with_norms G a b; rewrite wa, lb in parallel.
  assert (0 < a * b) by nra; assert (wl G = - (a * b)) as -> by nra; field; lra.
Qed.

Theorem two_tokens_cosine (f pw pl : R) : 0 < f -> 0 < pw -> 0 < pl -> pw + pl = 1 ->
  cosine (single_token f (pw * pw + pl * pl) pw pl) = -1.
Proof.
  intros; destruct (two_tokens_parallel f pw pl) as [parallel opposed]; try lra.
  apply cosine_minus_one; auto; rewrite two_tokens_entries by assumption; simpl; repeat apply Rmult_lt_0_compat; lra.
Qed.

Theorem uniform_cosine (f V : R) : 0 < f -> 1 < V ->
  let G := single_token f (1 / V) (1 / V) (1 / V) in wl G * (V - 1) = - ww G /\ cosine G = -1 / (V - 1).
Proof.
  intros f_pos V_large G.
  assert (equal_norms : ll G = ww G) by (unfold G; entries; ring).
  assert (ww_value : ww G = f * ((V - 1) / V)) by (unfold G; entries; field; lra).
  assert (wl_value : wl G = - (f / V)) by (unfold G; entries; field; lra).
  assert (0 < ww G) by (rewrite ww_value; repeat apply Rmult_lt_0_compat; try apply Rinv_0_lt_compat; lra).
  unfold cosine; rewrite equal_norms, sqrt_sqrt by lra.
  rewrite ww_value, wl_value; split; field; lra.
Qed.
