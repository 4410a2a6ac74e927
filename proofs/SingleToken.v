(** * One differing token

    What is stated.  T4: the responses differ in one token, the two contexts share their features φ, and the last layer
    is a softmax with probabilities p.  Then the gradients are φ times the residuals e_w - p and e_l - p, and the
    pair's Gram matrix depends on four numbers only.  Margin losses with equal weights (DPO) always separate such a
    pair, and the two gradients point apart exactly when p_w + p_l > ‖p‖², which holds whenever no single token is
    likelier than the two together.  Their cosine is -1 in a vocabulary of two tokens, -1 / (V - 1) at uniform p.

    Scope.  Real arithmetic: first on these four numbers and in any space with an inner product for the residuals, then
    for the gradients of a linear softmax model.  Floating point is the tests' business.

    Name                     Meaning
    f                        ‖φ‖² > 0, squared norm of the shared features
    s                        ‖p‖², sum of the squared probabilities
    pw, pl                   probabilities of the chosen and of the rejected token
    single_token f s pw pl   the Gram matrix of such a pair
    one_token z0 φ y         the response of the one token y, after a context with features φ and frozen logits z0 *)

From Coq Require Import Reals Lra Psatz Lia Arith List FunctionalExtensionality.
From Toymodel Require Import Sums Condition Softmax Slopes Entanglement.
Local Open Scope R_scope.

Definition single_token (f s pw pl : R) :=
  Gram (f * (1 - 2 * pw + s)) (f * (1 - 2 * pl + s)) (f * (s - pw - pl)).

Ltac gram_entries := unfold separates, chosen_slope, rejected_slope, single_token in *; simpl in *.

(** T4: these are the entries, from ⟨e_w, e_w⟩ = 1, ⟨e_w, e_l⟩ = 0, ⟨e_w, p⟩ = p_w and the like. *)
Theorem residuals_have_single_token_gram {V : Type} plus scale (ip : V -> V -> R) (ew el p : V) (f : R) :
  semi_inner_product plus scale ip -> ip ew ew = 1 -> ip el el = 1 -> ip ew el = 0 ->
  let residual token := combined V plus scale 1 token (-1) p in
  gram_of (fun u v => f * ip u v) (residual ew) (residual el) = single_token f (ip p p) (ip ew p) (ip el p).
Proof.
  intros form w_unit l_unit w_l; unfold gram_of, single_token; simpl.
  rewrite !(ip_combine_left _ _ _ _ form), !(ip_combine_right _ _ _ _ form).
  rewrite w_unit, l_unit, w_l, (symmetric _ _ _ form p ew), (symmetric _ _ _ form p el); f_equal; ring.
Qed.

(** T4: the two gaps, positive unless one of the two tokens already has probability 1 and the other 0. *)
Theorem chosen_gap (f s pw pl : R) : let G := single_token f s pw pl in ww G - wl G = f * (1 - pw + pl).
Proof. gram_entries; ring. Qed.

Theorem rejected_gap (f s pw pl : R) : let G := single_token f s pw pl in ll G - wl G = f * (1 - pl + pw).
Proof. gram_entries; ring. Qed.

Theorem gaps_positive (f s pw pl : R) : let G := single_token f s pw pl in
  0 < f -> pw - pl < 1 -> pl - pw < 1 -> wl G < ww G /\ wl G < ll G.
Proof. gram_entries; split; nra. Qed.

Theorem squared_distance (f s pw pl : R) : let G := single_token f s pw pl in ww G - 2 * wl G + ll G = 2 * f.
Proof. gram_entries; ring. Qed.

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
Proof. gram_entries; split; nra. Qed.

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
  assert (equal_norms : ll G = ww G) by (unfold G; gram_entries; ring).
  assert (ww_value : ww G = f * ((V - 1) / V)) by (unfold G; gram_entries; field; lra).
  assert (wl_value : wl G = - (f / V)) by (unfold G; gram_entries; field; lra).
  assert (0 < ww G) by (rewrite ww_value; repeat apply Rmult_lt_0_compat; try apply Rinv_0_lt_compat; lra).
  unfold cosine; rewrite equal_norms, sqrt_sqrt by lra.
  rewrite ww_value, wl_value; split; field; lra.
Qed.

(** ** T4 for probabilities of a vocabulary *)

Lemma two_terms_le_sum (n i j : nat) (f : nat -> R) :
  (forall k, (k < n)%nat -> 0 <= f k) -> (i < n)%nat -> (j < n)%nat -> i <> j -> f i + f j <= sum n f.
Proof.
  intros nonneg i_lt j_lt differ.
  rewrite <- (sum_is n i f), <- (sum_is n j f), <- sum_plus by assumption; apply sum_le; intros k k_lt.
  pose proof (nonneg k k_lt).
  unfold is; destruct (Nat.eq_dec i k), (Nat.eq_dec j k); subst; first [contradiction | lra].
Qed.

Lemma square_le_squared_norm (V : nat) (p : nat -> R) (w : nat) : (w < V)%nat -> p w * p w <= dot V p p.
Proof. intros; apply (term_le_sum V (fun v => p v * p v)); [intros; apply Rle_0_sqr | assumption]. Qed.

Section Distribution.
Variables (V : nat) (p : nat -> R) (w l : nat).
Hypotheses (p_distribution : distribution V p) (w_token : (w < V)%nat) (l_token : (l < V)%nat) (differ : w <> l).
Hypotheses (w_possible : 0 < p w) (l_possible : 0 < p l).

Lemma neither_token_certain : p w < 1 /\ p l < 1.
Proof.
  destruct p_distribution as [nonneg total].
  pose proof (two_terms_le_sum V w l p nonneg w_token l_token differ); lra.
Qed.

Lemma single_token_norms_positive (f : R) : 0 < f ->
  let G := single_token f (dot V p p) (p w) (p l) in 0 < ww G /\ 0 < ll G.
Proof.
  intros f_pos; simpl; destruct neither_token_certain.
  pose proof (square_le_squared_norm V p w w_token); pose proof (square_le_squared_norm V p l l_token).
  split; apply Rmult_lt_0_compat; nra.
Qed.

Theorem cosine_negative_iff (f : R) : 0 < f ->
  (cosine (single_token f (dot V p p) (p w) (p l)) < 0 <-> dot V p p < p w + p l).
Proof.
  intros f_pos; rewrite <- (inner_product_negative_iff f) by assumption.
  destruct (single_token_norms_positive f f_pos) as [ww_pos ll_pos].
  set (G := single_token _ _ _ _) in *; with_norms G a b.
  assert (0 < a * b) by nra; replace (wl G) with (wl G / (a * b) * (a * b)) at 2 by (field; lra).
  split; intros; nra.
Qed.

(** If no token is likelier than the two together, m = p_w + p_l, then m - ‖p‖² = Σ_v p_v (m - p_v), no term of which is
    negative, and whose term at w is p_w p_l > 0. *)
Theorem squared_norm_below_pair : (forall v, (v < V)%nat -> p v <= p w + p l) -> dot V p p < p w + p l.
Proof.
  intros outweigh; destruct p_distribution as [nonneg total]; set (m := p w + p l) in *.
  assert (gap : Σ_(v < V) p v * (m - p v) = m - dot V p p).
  { replace (m - dot V p p) with (m * sum V p - dot V p p) by (rewrite total; ring).
    unfold dot; rewrite <- sum_scale, <- sum_minus; apply sum_ext; intros; ring. }
  assert (at_w : p w * (m - p w) <= Σ_(v < V) p v * (m - p v)).
  { apply (term_le_sum V (fun v => p v * (m - p v))); [| assumption].
    intros v v_lt; specialize (outweigh v v_lt); apply Rmult_le_pos; [auto | lra]. }
  assert (0 < p w * (m - p w)) by (apply Rmult_lt_0_compat; unfold m; lra).
  lra.
Qed.

Theorem cosine_negative_if_pair_outweighs (f : R) : 0 < f ->
  (forall v, (v < V)%nat -> p v <= p w + p l) -> cosine (single_token f (dot V p p) (p w) (p l)) < 0.
Proof. intros; apply cosine_negative_iff; [assumption | now apply squared_norm_below_pair]. Qed.

Theorem two_token_vocabulary_cosine (f : R) : V = 2%nat -> 0 < f ->
  cosine (single_token f (dot V p p) (p w) (p l)) = -1.
Proof.
  intros V_2 f_pos; destruct p_distribution as [_ total]; rewrite V_2 in *.
  assert (p w + p l = sum 2 p /\ dot 2 p p = p w * p w + p l * p l) as [pair ->].
  { unfold dot; destruct w as [|[|]], l as [|[|]]; simpl; try lia; split; ring. }
  apply two_tokens_cosine; lra.
Qed.

End Distribution.

(** That assumption matters: with p = (1/10, 1/10, 8/10) the gradients of the first two tokens point the same way. *)
Example likelier_third_token_entangles : let p v := nth v (1/10 :: 1/10 :: 8/10 :: nil) 0 in
  distribution 3 p /\ 0 < wl (single_token 1 (dot 3 p p) (p 0%nat) (p 1%nat)).
Proof.
  unfold distribution, dot, single_token; simpl; repeat split; try lra.
  intros v v_lt; do 3 (destruct v as [|v]; [lra |]); lia.
Qed.

Theorem uniform_vocabulary_cosine (V : nat) (f : R) : (1 < V)%nat -> 0 < f ->
  let p := fun _ : nat => 1 / INR V in cosine (single_token f (dot V p p) (1 / INR V) (1 / INR V)) = -1 / (INR V - 1).
Proof.
  intros V_large f_pos p; apply lt_1_INR in V_large.
  assert (dot V p p = 1 / INR V) as -> by (unfold dot, p; rewrite sum_const; field; lra).
  now apply uniform_cosine.
Qed.

(** ** T4 for linear softmax *)

Definition one_token (z0 φ : nat -> R) (y : nat) : response := Response 1 (fun _ => y) (fun _ => z0) (fun _ => φ).

Section OneToken.
Variables (V d : nat) (W : nat -> nat -> R) (z0 φ : nat -> R) (w l : nat).
Hypotheses (w_token : (w < V)%nat) (l_token : (l < V)%nat) (differ : w <> l).

Let p := softmax V (fun v => z0 v + dot d (W v) φ).
Let G := pair_gram V d W (one_token z0 φ w) (one_token z0 φ l).

Lemma p_softmax : distribution V p /\ 0 < p w /\ 0 < p l.
Proof. assert (0 < V)%nat by lia; unfold p; auto using softmax_is_a_distribution, softmax_pos. Qed.

Lemma one_token_gram (y y' : nat) : (y < V)%nat -> (y' < V)%nat ->
  token_gram V d W (one_token z0 φ y) (one_token z0 φ y') 0 0
  = dot d φ φ * (is y y' - p y' - p y + dot V p p).
Proof. exact (token_gram_in_probabilities V d W (one_token z0 φ y) (one_token z0 φ y') 0 0). Qed.

(** The entries above are those of the gradients of log π in W. *)
Theorem one_token_pair_gram : G = single_token (dot d φ φ) (dot V p p) (p w) (p l).
Proof.
  unfold G, single_token; rewrite pair_gram_from_tokens; simpl.
  rewrite !one_token_gram, !is_same, is_different by assumption; f_equal; ring.
Qed.

(** T4: DPO always separates one differing token, whatever the logits and the shared features. *)
Theorem one_differing_token_separates (weight : R) : 0 < dot d φ φ -> 0 < weight -> separates G weight weight.
Proof.
  intros φ_pos weight_pos; rewrite one_token_pair_gram; destruct p_softmax as (p_distribution & w_pos & l_pos).
  pose proof (neither_token_certain V p w l p_distribution w_token l_token differ w_pos l_pos).
  apply equal_weights_separate_softmax; lra.
Qed.

Theorem one_differing_token_cosine_negative_iff : 0 < dot d φ φ -> (cosine G < 0 <-> dot V p p < p w + p l).
Proof.
  intros φ_pos; rewrite one_token_pair_gram; destruct p_softmax as (p_distribution & w_pos & l_pos).
  now apply cosine_negative_iff.
Qed.

Theorem one_differing_token_cosine_negative_if_pair_outweighs : 0 < dot d φ φ ->
  (forall v, (v < V)%nat -> p v <= p w + p l) -> cosine G < 0.
Proof.
  intros φ_pos outweigh; rewrite one_token_pair_gram; destruct p_softmax as (p_distribution & w_pos & l_pos).
  now apply cosine_negative_if_pair_outweighs.
Qed.

Theorem one_differing_token_of_two_cosine : V = 2%nat -> 0 < dot d φ φ -> cosine G = -1.
Proof.
  intros V_2 φ_pos; rewrite one_token_pair_gram; destruct p_softmax as (p_distribution & w_pos & l_pos).
  now apply two_token_vocabulary_cosine.
Qed.

Theorem one_differing_token_uniform_cosine (c : R) : 0 < dot d φ φ ->
  (forall v, z0 v + dot d (W v) φ = c) -> cosine G = -1 / (INR V - 1).
Proof.
  intros φ_pos constant; rewrite one_token_pair_gram; unfold p.
  replace (fun v => z0 v + dot d (W v) φ) with (fun _ : nat => c)
    by (apply functional_extensionality; auto).
  rewrite !uniform_softmax by lia.
  replace (softmax V (fun _ => c)) with (fun _ : nat => 1 / INR V)
    by (apply functional_extensionality; intros; now rewrite uniform_softmax by lia).
  apply uniform_vocabulary_cosine; [lia | assumption].
Qed.

End OneToken.

(** Shared features matter: after contexts with orthogonal features the inner product is 0, whatever the logits. *)
Example contexts_without_shared_features (V d : nat) (W : nat -> nat -> R) (z0 z0' φ φ' : nat -> R) (w l : nat) :
  dot d φ φ' = 0 -> wl (pair_gram V d W (one_token z0 φ w) (one_token z0' φ' l)) = 0.
Proof. intros orthogonal; apply orthogonal_features_do_not_entangle; intros; exact orthogonal. Qed.
