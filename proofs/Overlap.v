(** * The overlap law, and shared contexts that cancel

    What is stated.

      T3  in a tabular model ⟨g_w, g_l⟩ is a sum over the pairs of positions that share their context; its values at
          uniform probabilities; and what it gains when a rejected token is replaced by the chosen one;
      T5  positions with the same context and the same token in both responses drop out of g_w - g_l, and if their
          features are orthogonal to all others they raise the three entries of the Gram matrix alike: no slope changes
          for d_w = d_l, the cosine tends to 1, and for d_w ≠ d_l they do matter.  Tabular models in which no context
          comes twice in a response, prefix and positional ones among them, cannot displace for d_w = d_l.

    Scope.  Real arithmetic; floating point is the tests' business.  A tabular model has one column of W for each
    context, so its probabilities depend on nothing but the context: a positional model with other probabilities after
    the chosen tokens than after the rejected ones is the subject of Suffix.v.

    Name                    Meaning
    inner V d W w l         ⟨g_w, g_l⟩ of two responses in linear softmax
    tabular T c y           a response of T tokens y_i after contexts number c_i, with one-hot features e_(c_i)
    fits V d T c y          its contexts are below d, its tokens below V
    table_probs V W c             the probabilities in context c
    overlap V W c y y'      1[y = y'] - p(y) - p(y') + ‖p‖², p the probabilities in context c
    uniform V W             every token has the probability 1/V in every context
    matches L y y'          number of positions i < L with y_i = y'_i
    count T y v             number of positions i < T with y_i = v
    replaced m t y          the tokens y, but t at position m
    restrict S r            the response r with the features of all positions outside S set to 0, so that only those in
                            S contribute to its gradient
    shared S w l            at the positions in S both responses have the same context and the same token
    add_to_all n G          the Gram matrix G with n added to every entry
    once T c                no context comes twice among c_0, …, c_(T-1) *)

From Coq Require Import Reals Lra Psatz Lia Arith List Cantor FunctionalExtensionality.
From Toymodel Require Import Sums Condition Softmax Slopes Entanglement SingleToken.
Local Open Scope R_scope.

Definition inner (V d : nat) (W : nat -> nat -> R) (w l : response) : R :=
  frobenius V d (gradient V d W w) (gradient V d W l).

Definition tabular (T : nat) (c y : nat -> nat) : response := Response T y (fun _ _ => 0) (fun i => is (c i)).

Definition fits (V d T : nat) (c y : nat -> nat) : Prop := forall i, (i < T)%nat -> (c i < d)%nat /\ (y i < V)%nat.

Definition table_probs (V : nat) (W : nat -> nat -> R) (c : nat) : nat -> R := softmax V (fun v => W v c).

Definition overlap (V : nat) (W : nat -> nat -> R) (c y y' : nat) : R :=
  let p := table_probs V W c in is y y' - p y - p y' + dot V p p.

Definition uniform (V : nat) (W : nat -> nat -> R) : Prop := forall c v, (v < V)%nat -> table_probs V W c v = 1 / INR V.

Definition matches (L : nat) (y y' : nat -> nat) : R := Σ_(i < L) is (y i) (y' i).
Definition count (T : nat) (y : nat -> nat) (v : nat) : R := Σ_(i < T) is (y i) v.
Definition replaced (m t : nat) (y : nat -> nat) (i : nat) : nat := if Nat.eq_dec i m then t else y i.

(** ** Sums with few terms that differ from 0 *)

Lemma sum_only_one (n k : nat) (f : nat -> R) :
  (k < n)%nat -> (forall i, (i < n)%nat -> i <> k -> f i = 0) -> sum n f = f k.
Proof.
  intros k_lt others; rewrite <- (sum_is n k f) by assumption; apply sum_ext; intros i i_lt.
  destruct (Nat.eq_dec i k) as [-> | i_ne]; [rewrite is_same | rewrite others, is_different by auto]; ring.
Qed.

Lemma sum_beyond (n k : nat) (f : nat -> R) : (forall i, (n <= i)%nat -> f i = 0) -> sum (n + k) f = sum n f.
Proof.
  intros zero; induction k as [|k IH]; [now rewrite Nat.add_0_r |].
  rewrite Nat.add_succ_r; simpl; rewrite IH, zero by lia; ring.
Qed.

Lemma sum_over_common (n m : nat) (S : nat -> bool) (f g : nat -> R) :
  (forall i, S i = true -> (i < n)%nat /\ (i < m)%nat /\ f i = g i) ->
  Σ_(i < n) (if S i then f i else 0) = Σ_(i < m) (if S i then g i else 0).
Proof.
  intros common; rewrite <- (sum_beyond n m), <- (sum_beyond m n), Nat.add_comm.
  - apply sum_ext; intros i _; destruct (S i) eqn:in_S; [now apply common | reflexivity].
  - intros i i_ge; destruct (S i) eqn:in_S; [apply common in in_S; lia | reflexivity].
  - intros i i_ge; destruct (S i) eqn:in_S; [apply common in in_S; lia | reflexivity].
Qed.

Lemma dot_zero_left (d : nat) (u : nat -> R) : dot d (fun _ => 0) u = 0.
Proof. apply sum_zero; intros; ring. Qed.

Lemma dot_zero_right (d : nat) (u : nat -> R) : dot d u (fun _ => 0) = 0.
Proof. apply sum_zero; intros; ring. Qed.

Lemma inner_symmetric (V d : nat) (W : nat -> nat -> R) (w l : response) : inner V d W w l = inner V d W l w.
Proof. apply (symmetric _ _ _ (matrices_form V d)). Qed.

(** ** T3: the overlap law *)

Lemma tabular_logits (d : nat) (W : nat -> nat -> R) (T : nat) (c y : nat -> nat) (i : nat) :
  (c i < d)%nat -> logits d W (tabular T c y) i = (fun v => W v (c i)).
Proof.
  intros c_lt; unfold logits; extensionality v; simpl.
  rewrite dot_symmetric, dot_is_left by assumption; ring.
Qed.

Lemma tabular_token_gram (V d : nat) (W : nat -> nat -> R) (T T' : nat) (c y c' y' : nat -> nat) (i j : nat) :
  (c i < d)%nat -> (y i < V)%nat -> (c' j < d)%nat -> (y' j < V)%nat ->
  token_gram V d W (tabular T c y) (tabular T' c' y') i j = is (c i) (c' j) * overlap V W (c i) (y i) (y' j).
Proof.
  intros c_lt y_lt c'_lt y'_lt; rewrite token_gram_in_probabilities by assumption.
  rewrite !tabular_logits by assumption; simpl; rewrite dot_is_left, is_symmetric by assumption.
  fold (table_probs V W (c i)) (table_probs V W (c' j)); unfold overlap.
  destruct (Nat.eq_dec (c i) (c' j)) as [<- | differ]; [ring | rewrite is_different by assumption; ring].
Qed.

Section TwoResponses.
Variables (V d : nat) (W : nat -> nat -> R) (Tw Tl : nat) (cw yw cl yl : nat -> nat).
Hypotheses (w_fits : fits V d Tw cw yw) (l_fits : fits V d Tl cl yl).

Let w := tabular Tw cw yw.
Let l := tabular Tl cl yl.

Theorem overlap_law :
  inner V d W w l = Σ_(i < Tw) Σ_(j < Tl) is (cw i) (cl j) * overlap V W (cw i) (yw i) (yl j).
Proof.
  unfold inner; rewrite entanglement_identity; apply sum_ext; intros i i_lt; apply sum_ext; intros j j_lt.
  destruct (w_fits i i_lt), (l_fits j j_lt); now apply tabular_token_gram.
Qed.

End TwoResponses.

(** Uniform probabilities: those of W = 0, for example. *)
Example zero_table_uniform (V : nat) : uniform V (fun _ _ => 0).
Proof. intros c v v_lt; unfold table_probs; apply uniform_softmax; lia. Qed.

Section Uniform.
Variables (V : nat) (W : nat -> nat -> R).
Hypotheses (V_pos : (0 < V)%nat) (W_uniform : uniform V W).

Lemma uniform_overlap (c y y' : nat) : (y < V)%nat -> (y' < V)%nat -> overlap V W c y y' = is y y' - 1 / INR V.
Proof.
  intros y_lt y'_lt; pose proof (lt_0_INR V V_pos); unfold overlap; rewrite !W_uniform by assumption.
  assert (dot V (table_probs V W c) (table_probs V W c) = 1 / INR V) as ->; [| ring].
  unfold dot; rewrite (sum_ext V _ (fun _ => 1 / INR V * (1 / INR V))) by (intros; now rewrite !W_uniform).
  rewrite sum_const; field; lra.
Qed.

Let positional (L : nat) (y : nat -> nat) := tabular L (fun i => i) y.
Let in_V (T : nat) (y : nat -> nat) := forall i, (i < T)%nat -> (y i < V)%nat.

Theorem uniform_positional_inner (L : nat) (y y' : nat -> nat) : in_V L y -> in_V L y' ->
  inner V L W (positional L y) (positional L y') = matches L y y' - INR L / INR V.
Proof.
  intros y_in y'_in; pose proof (lt_0_INR V V_pos).
  unfold positional; rewrite overlap_law by (split; auto).
  rewrite (sum_ext L _ (fun i => is (y i) (y' i) - 1 / INR V)).
  - rewrite sum_minus, sum_const; unfold matches; field; lra.
  - intros i i_lt; rewrite (sum_is L i (fun j => overlap V W i (y i) (y' j))) by assumption.
    apply uniform_overlap; auto.
Qed.

Lemma matches_self (L : nat) (y : nat -> nat) : matches L y y = INR L.
Proof. unfold matches; rewrite (sum_ext L _ (fun _ => 1)), sum_const by (intros; apply is_same); ring. Qed.

Corollary uniform_positional_squared_norm (L : nat) (y : nat -> nat) : in_V L y ->
  inner V L W (positional L y) (positional L y) = INR L * (1 - 1 / INR V).
Proof.
  intros y_in; pose proof (lt_0_INR V V_pos).
  rewrite uniform_positional_inner, matches_self by assumption; field; lra.
Qed.

Theorem uniform_positional_cosine (L : nat) (y y' : nat -> nat) :
  in_V L y -> in_V L y' -> (0 < L)%nat -> (1 < V)%nat ->
  cosine (pair_gram V L W (positional L y) (positional L y'))
  = (matches L y y' - INR L / INR V) / (INR L * (1 - 1 / INR V)).
Proof.
  intros y_in y'_in L_pos V_large; apply lt_0_INR in L_pos; apply lt_1_INR in V_large.
  unfold cosine; simpl; change (frobenius V L (gradient V L W ?a) (gradient V L W ?b)) with (inner V L W a b).
  rewrite !uniform_positional_squared_norm, uniform_positional_inner by assumption.
  rewrite sqrt_sqrt; [reflexivity |].
  replace (1 - 1 / INR V) with ((INR V - 1) / INR V) by (field; lra).
  apply Rlt_le, Rmult_lt_0_compat; [assumption | apply Rdiv_lt_0_compat; lra].
Qed.

(** One context for all positions. *)
Theorem uniform_unigram_inner (Tw Tl : nat) (yw yl : nat -> nat) : in_V Tw yw -> in_V Tl yl ->
  inner V 1 W (tabular Tw (fun _ => 0%nat) yw) (tabular Tl (fun _ => 0%nat) yl)
  = Σ_(v < V) count Tw yw v * count Tl yl v - INR Tw * INR Tl / INR V.
Proof.
  intros yw_in yl_in; pose proof (lt_0_INR V V_pos).
  rewrite overlap_law by (split; auto).
  replace (Σ_(v < V) count Tw yw v * count Tl yl v) with (Σ_(i < Tw) Σ_(j < Tl) is (yw i) (yl j)).
  - transitivity (Σ_(i < Tw) Σ_(j < Tl) (is (yw i) (yl j) - 1 / INR V)).
    + apply sum_ext; intros i i_lt; apply sum_ext; intros j j_lt.
      rewrite is_same, uniform_overlap by auto; ring.
    + rewrite (sum_ext Tw _ (fun i => Σ_(j < Tl) is (yw i) (yl j) - INR Tl * (1 / INR V)))
        by (intros; now rewrite sum_minus, sum_const).
      rewrite sum_minus, sum_const; field; lra.
  - unfold count; rewrite (sum_ext V _ (fun v => Σ_(i < Tw) Σ_(j < Tl) is (yw i) v * is (yl j) v))
      by (intros; apply sum_product).
    symmetry; rewrite sum_swap; apply sum_ext; intros i i_lt; rewrite sum_swap; apply sum_ext; intros j j_lt.
    rewrite (sum_is V (yw i) (is (yl j))) by auto; apply is_symmetric.
Qed.

End Uniform.

(** ** T3: one more shared token *)

Section Replacement.
Variables (V d : nat) (W : nat -> nat -> R) (Tw Tl : nat) (cw yw cl yl : nat -> nat).
Hypotheses (w_fits : fits V d Tw cw yw) (l_fits : fits V d Tl cl yl).

Lemma replaced_fits (m t : nat) : (t < V)%nat -> fits V d Tl cl (replaced m t yl).
Proof. intros t_lt j j_lt; unfold replaced; destruct (l_fits j j_lt), (Nat.eq_dec j m); auto. Qed.

(** Position m of the rejected response meets position i of the chosen one and no other, and gets its token. *)
Theorem replacement_increment (i m : nat) :
  (i < Tw)%nat -> (m < Tl)%nat -> (forall i', (i' < Tw)%nat -> (cw i' = cl m <-> i' = i)) -> yl m <> yw i ->
  let p := table_probs V W (cl m) in
  inner V d W (tabular Tw cw yw) (tabular Tl cl (replaced m (yw i) yl))
  - inner V d W (tabular Tw cw yw) (tabular Tl cl yl) = 1 - p (yw i) + p (yl m).
Proof.
  intros i_lt m_lt meets differ p; assert (cw i = cl m) as context by now apply meets.
  rewrite !overlap_law by (auto; apply replaced_fits; now apply w_fits).
  set (term i' j := is (cw i') (cl j) * (overlap V W (cw i') (yw i') (replaced m (yw i) yl j)
                                         - overlap V W (cw i') (yw i') (yl j))).
  assert (only_here : forall i' j, (i' < Tw)%nat -> i' <> i \/ j <> m -> term i' j = 0).
  { intros i' j i'_lt elsewhere; unfold term, replaced; destruct (Nat.eq_dec j m) as [-> | j_ne]; [| ring].
    rewrite (is_different (cw i')); [ring | rewrite meets by assumption; tauto]. }
  transitivity (Σ_(i' < Tw) Σ_(j < Tl) term i' j).
  { rewrite <- sum_minus; apply sum_ext; intros i' _; rewrite <- sum_minus; apply sum_ext; intros j _.
    unfold term; ring. }
  rewrite (sum_only_one Tw i) by (try assumption; intros; apply sum_zero; auto).
  rewrite (sum_only_one Tl m) by auto.
  unfold term, replaced; destruct (Nat.eq_dec m m); [| contradiction].
  unfold overlap; rewrite context; fold p; rewrite !is_same, (is_different (yw i)) by auto; ring.
Qed.

Theorem increment_positive (c y y' : nat) : (y < V)%nat -> (y' < V)%nat ->
  0 < 1 - table_probs V W c y + table_probs V W c y'.
Proof.
  intros y_lt y'_lt; unfold table_probs.
  pose proof (softmax_at_most_one V (fun v => W v c) y y_lt).
  pose proof (softmax_pos V (fun v => W v c) y' ltac:(lia)); lra.
Qed.

End Replacement.

Definition text (tokens : list nat) (i : nat) : nat := nth i tokens 0%nat.
Definition unigram_text (tokens : list nat) : response := tabular (length tokens) (fun _ => 0%nat) (text tokens).

Ltac tokens_below := unfold text; intros i i_lt; simpl in i_lt; do 4 (destruct i as [|i]; [simpl; lia |]); lia.

(** Inner products of short unigram texts, at uniform probabilities over three tokens, by counting. *)
Ltac by_counting :=
  unfold unigram_text; rewrite !uniform_unigram_inner by (first [lia | apply zero_table_uniform | tokens_below]);
  unfold count, text, is; simpl; lra.

(** Where the context comes twice the inner product may fall: unigram, three tokens, chosen 0 1 1, and the first token
    of the rejected 1 2 2 is replaced by that of the chosen. *)
Example replacement_needs_a_context_that_comes_once :
  let inner := inner 3 1 (fun _ _ => 0) in
  inner (unigram_text (0 :: 1 :: 1 :: nil)%nat) (unigram_text (0 :: 2 :: 2 :: nil)%nat)
  - inner (unigram_text (0 :: 1 :: 1 :: nil)%nat) (unigram_text (1 :: 2 :: 2 :: nil)%nat) = -1.
Proof. cbv zeta; by_counting. Qed.

(** ** T5: positions with the same context and the same token *)

Definition restrict (S : nat -> bool) (r : response) : response :=
  Response (size r) (token r) (frozen r) (fun i => if S i then feature r i else fun _ => 0).

Definition others (S : nat -> bool) (i : nat) : bool := negb (S i).

Definition shared (S : nat -> bool) (w l : response) : Prop := forall i, S i = true ->
  (i < size w)%nat /\ (i < size l)%nat /\
  token w i = token l i /\ feature w i = feature l i /\ frozen w i = frozen l i.

Definition add_to_all (n : R) (G : gram) : gram := Gram (ww G + n) (ll G + n) (wl G + n).

Lemma restricted_gradient (V d : nat) (W : nat -> nat -> R) (S : nat -> bool) (r : response) (v k : nat) :
  gradient V d W (restrict S r) v k
  = Σ_(i < size r) (if S i then residuals V d W r i v * feature r i k else 0).
Proof.
  unfold gradient, residuals, logits; apply sum_ext; intros i _; simpl.
  destruct (S i); [reflexivity | ring].
Qed.

Lemma gradient_in_two_parts (V d : nat) (W : nat -> nat -> R) (S : nat -> bool) (r : response) :
  gradient V d W r = matrix_plus (gradient V d W (restrict (others S) r)) (gradient V d W (restrict S r)).
Proof.
  extensionality v; extensionality k; unfold matrix_plus; rewrite !restricted_gradient, <- sum_plus.
  apply sum_ext; intros i _; unfold others; destruct (S i); simpl; ring.
Qed.

Section SharedPositions.
Variables (V d : nat) (W : nat -> nat -> R) (S : nat -> bool) (w l : response).
Hypothesis S_shared : shared S w l.

Let contrast_w := restrict (others S) w.
Let contrast_l := restrict (others S) l.
Let both := restrict S w.

Lemma shared_gradients_equal : gradient V d W (restrict S l) = gradient V d W both.
Proof.
  extensionality v; extensionality k; unfold both; rewrite !restricted_gradient.
  apply sum_over_common; intros i in_S; destruct (S_shared i in_S) as (w_has & l_has & same_token & same_φ & same_z).
  unfold residuals, logits; now rewrite same_token, same_φ, same_z.
Qed.

(** They drop out of g_w - g_l, in any linear softmax model. *)
Theorem shared_positions_cancel (v k : nat) :
  gradient V d W w v k - gradient V d W l v k = gradient V d W contrast_w v k - gradient V d W contrast_l v k.
Proof.
  rewrite (gradient_in_two_parts V d W S w), (gradient_in_two_parts V d W S l), shared_gradients_equal.
  unfold matrix_plus, contrast_w, contrast_l, both; ring.
Qed.

(** Their features are orthogonal to those of all other positions, of both responses. *)
Hypothesis apart : forall i j, S i = true -> S j = false ->
  ((j < size w)%nat -> dot d (feature w i) (feature w j) = 0) /\
  ((j < size l)%nat -> dot d (feature w i) (feature l j) = 0).

Lemma shared_part_orthogonal : inner V d W both contrast_w = 0 /\ inner V d W both contrast_l = 0.
Proof.
  split; apply orthogonal_features_do_not_entangle; intros i j _ j_lt; simpl; unfold others;
    destruct (S i) eqn:i_in, (S j) eqn:j_in; simpl; auto using dot_zero_left, dot_zero_right; now apply apart.
Qed.

(** Then they raise ‖g_w‖², ‖g_l‖² and ⟨g_w, g_l⟩ alike. *)
Theorem shared_positions_add_alike :
  pair_gram V d W w l = add_to_all (inner V d W both both) (pair_gram V d W contrast_w contrast_l).
Proof.
  destruct shared_part_orthogonal as [w_apart l_apart].
  unfold pair_gram, gram_of, add_to_all, inner in *; simpl.
  rewrite (gradient_in_two_parts V d W S w), (gradient_in_two_parts V d W S l), shared_gradients_equal.
  fold both contrast_w contrast_l; set (h := gradient V d W both) in *.
  set (a := gradient V d W contrast_w) in *; set (b := gradient V d W contrast_l) in *.
  pose proof (matrices_form V d) as form; pose proof (symmetric _ _ _ form) as sym.
  assert (expand : forall A B, frobenius V d A h = 0 -> frobenius V d B h = 0 ->
    frobenius V d (matrix_plus A h) (matrix_plus B h) = frobenius V d A B + frobenius V d h h).
  { intros A B A_apart B_apart.
    rewrite (additive _ _ _ form), (sym A), (sym h), !(additive _ _ _ form), (sym h A), A_apart, B_apart, (sym B A).
    ring. }
  rewrite !expand by (now rewrite sym); reflexivity.
Qed.

(** By how much, if they are orthogonal to one another as well: by Σ ‖φ_i‖² ‖s_i‖². *)
Theorem shared_positions_norm :
  (forall i j, S i = true -> S j = true -> i <> j -> dot d (feature w i) (feature w j) = 0) ->
  inner V d W both both = Σ_(i < size w)
    (if S i then dot d (feature w i) (feature w i) * dot V (residuals V d W w i) (residuals V d W w i) else 0).
Proof.
  intros orthogonal; unfold inner; rewrite entanglement_identity; simpl; apply sum_ext; intros i i_lt.
  rewrite (sum_only_one (size w) i); [| assumption |].
  - unfold token_gram, residuals, logits; simpl; destruct (S i); [reflexivity | rewrite dot_zero_left; ring].
  - intros j j_lt differ; unfold token_gram; simpl.
    destruct (S i) eqn:i_in, (S j) eqn:j_in; rewrite ?dot_zero_left, ?dot_zero_right, ?orthogonal by auto; ring.
Qed.

(** What that does to the slopes: nothing for d_w = d_l, and otherwise the same to both. *)
Lemma slopes_of_add_to_all (n : R) (G : gram) (dw dl : R) :
  chosen_slope (add_to_all n G) dw dl = chosen_slope G dw dl + (dw - dl) * n /\
  rejected_slope (add_to_all n G) dw dl = rejected_slope G dw dl + (dw - dl) * n.
Proof. unfold chosen_slope, rejected_slope, add_to_all; simpl; split; ring. Qed.

Theorem shared_positions_change_no_slope (weight : R) :
  let G := pair_gram V d W w l in let contrast := pair_gram V d W contrast_w contrast_l in
  chosen_slope G weight weight = chosen_slope contrast weight weight /\
  rejected_slope G weight weight = rejected_slope contrast weight weight.
Proof.
  cbv zeta; rewrite shared_positions_add_alike.
  destruct (slopes_of_add_to_all (inner V d W both both) (pair_gram V d W contrast_w contrast_l) weight weight).
  lra.
Qed.

Theorem shared_positions_shift_both_slopes (dw dl : R) :
  let G := pair_gram V d W w l in let contrast := pair_gram V d W contrast_w contrast_l in
  chosen_slope G dw dl = chosen_slope contrast dw dl + (dw - dl) * inner V d W both both /\
  rejected_slope G dw dl = rejected_slope contrast dw dl + (dw - dl) * inner V d W both both.
Proof. cbv zeta; rewrite shared_positions_add_alike; apply slopes_of_add_to_all. Qed.

End SharedPositions.

(** The cosine tends to 1 as shared positions add more: it is never further from 1 than ‖g_w - g_l‖² / 2n. *)
Theorem cosine_tends_to_one (G : gram) (n : R) : psd G -> 0 < n ->
  0 <= 1 - cosine (add_to_all n G) <= (ww G - 2 * wl G + ll G) / (2 * n).
Proof.
  intros (ww_nonneg & ll_nonneg & cauchy_schwarz) n_pos.
  pose proof (squared_difference_nonneg _ _ _ ww_nonneg ll_nonneg cauchy_schwarz) as distance.
  set (G' := add_to_all n G); assert (distance' : ww G - 2 * wl G + ll G = ww G' - 2 * wl G' + ll G') by (simpl; ring).
  assert (n <= ww G' /\ n <= ll G') as [w_large l_large] by (simpl; lra).
  assert (cauchy_schwarz' : wl G' * wl G' <= ww G' * ll G') by (simpl; nra).
  rewrite distance'; clearbody G'; with_norms G' a b; try lra; rewrite wa, lb in *.
  assert (0 < a * b) by nra; assert (n <= a * b) by nra; assert (wl G' <= a * b) by nra.
  assert (squares : 2 * (a * b - wl G') <= a * a - 2 * wl G' + b * b).
  { pose proof (Rle_0_sqr (a - b)); unfold Rsqr in *; lra. }
  replace (1 - wl G' / (a * b)) with ((a * b - wl G') / (a * b)) by (field; lra).
  split; [apply Rmult_le_pos; [lra | apply Rlt_le, Rinv_0_lt_compat; lra] |].
  apply (Rmult_le_reg_r (a * b * (2 * n))); [nra |].
  replace ((a * b - wl G') / (a * b) * (a * b * (2 * n))) with (2 * (a * b - wl G') * n) by (field; nra).
  replace ((a * a - 2 * wl G' + b * b) / (2 * n) * (a * b * (2 * n))) with ((a * a - 2 * wl G' + b * b) * (a * b))
    by (field; lra).
  nra.
Qed.

(** It need not rise all the way: parallel gradients of different lengths part before they meet again. *)
Example shared_positions_may_lower_the_cosine : let G := Gram 1 4 2 in
  psd G /\ cosine G = 1 /\ cosine (add_to_all 1 G) < 1.
Proof.
  unfold psd, cosine; simpl; repeat split; try lra.
  - rewrite sqrt_1; replace 4 with (2 * 2) by ring; rewrite sqrt_square by lra; lra.
  - rewrite <- sqrt_mult by lra; assert (3 < sqrt ((1 + 1) * (4 + 1))).
    { rewrite <- (sqrt_square 3) by lra; apply sqrt_lt_1; lra. }
    apply (Rmult_lt_reg_r (sqrt ((1 + 1) * (4 + 1)))); [lra |]; field_simplify; lra.
Qed.

(** ** T5: models that cannot displace *)

Definition once (T : nat) (c : nat -> nat) : Prop := forall i j, (i < T)%nat -> (j < T)%nat -> c i = c j -> i = j.

Lemma context_found_or_not (T : nat) (c : nat -> nat) (x : nat) :
  (exists j, (j < T)%nat /\ c j = x) \/ (forall j, (j < T)%nat -> c j <> x).
Proof.
  induction T as [|T [(j & j_lt & found) | none]]; [right; lia | left; exists j; auto with arith |].
  destruct (Nat.eq_dec (c T) x) as [found | missing]; [left; exists T; auto with arith | right].
  intros j j_lt; destruct (Nat.eq_dec j T) as [-> |]; [assumption | apply none; lia].
Qed.

Section OnceEach.
Variables (V d : nat) (W : nat -> nat -> R).

(** ‖g‖² - ⟨g, g'⟩ of two such responses is a sum over the positions of the first, of what stands in its context only:
    ‖s_i‖², or 1 - 1[y = y'] - p(y) + p(y') if the other one has that context too, with token y'. *)
Section Gap.
Variables (T T' : nat) (c y c' y' : nat -> nat).
Hypotheses (here_fits : fits V d T c y) (there_fits : fits V d T' c' y').
Hypotheses (here_once : once T c) (there_once : once T' c').

Let gap (i : nat) : R :=
  overlap V W (c i) (y i) (y i) - Σ_(j < T') is (c i) (c' j) * overlap V W (c i) (y i) (y' j).

Lemma gap_sum :
  inner V d W (tabular T c y) (tabular T c y) - inner V d W (tabular T c y) (tabular T' c' y') = sum T gap.
Proof.
  rewrite !overlap_law, <- sum_minus by assumption; apply sum_ext; intros i i_lt; unfold gap; f_equal.
  rewrite (sum_only_one T i), is_same; [ring | assumption |].
  intros j j_lt differ; rewrite is_different; [ring | intros same; apply differ; symmetry; auto].
Qed.

Lemma gap_where_shared (i j : nat) : (i < T)%nat -> (j < T')%nat -> c' j = c i ->
  gap i = 1 - is (y i) (y' j) - table_probs V W (c i) (y i) + table_probs V W (c i) (y' j).
Proof.
  intros i_lt j_lt same; unfold gap; rewrite (sum_only_one T' j); [| assumption |].
  - rewrite same, is_same; unfold overlap; rewrite is_same; ring.
  - intros k k_lt differ; rewrite is_different; [ring |].
    intros also; apply differ, there_once; congruence.
Qed.

Lemma gap_elsewhere (i : nat) : (i < T)%nat -> (forall j, (j < T')%nat -> c' j <> c i) ->
  gap i = 1 - 2 * table_probs V W (c i) (y i) + dot V (table_probs V W (c i)) (table_probs V W (c i)).
Proof.
  intros i_lt missing; unfold gap; rewrite (sum_zero T').
  - unfold overlap; rewrite is_same; ring.
  - intros j j_lt; rewrite is_different; [ring | intros same; now apply (missing j)].
Qed.

Lemma gap_nonneg (i : nat) : (i < T)%nat -> 0 <= gap i.
Proof.
  intros i_lt; destruct (here_fits i i_lt) as [_ y_lt].
  destruct (context_found_or_not T' c' (c i)) as [(j & j_lt & same) | missing].
  - rewrite (gap_where_shared i j) by assumption; destruct (there_fits j j_lt) as [_ y'_lt].
    pose proof (increment_positive V W (c i) (y i) (y' j) y_lt y'_lt).
    destruct (Nat.eq_dec (y i) (y' j)) as [<- | differ]; [rewrite is_same | rewrite is_different by assumption]; lra.
  - rewrite gap_elsewhere by assumption; set (p := table_probs V W (c i)).
    pose proof (square_le_squared_norm V p (y i) y_lt); pose proof (Rle_0_sqr (1 - p (y i))); unfold Rsqr in *; lra.
Qed.

Lemma gap_positive (i : nat) : (1 < V)%nat -> (i < T)%nat ->
  (forall j, (j < T')%nat -> c' j = c i -> y' j <> y i) -> 0 < gap i.
Proof.
  intros V_large i_lt other_token; destruct (here_fits i i_lt) as [_ y_lt].
  destruct (context_found_or_not T' c' (c i)) as [(j & j_lt & same) | missing].
  - rewrite (gap_where_shared i j) by assumption; destruct (there_fits j j_lt) as [_ y'_lt].
    pose proof (increment_positive V W (c i) (y i) (y' j) y_lt y'_lt).
    rewrite is_different by (apply not_eq_sym, other_token; assumption); lra.
  - rewrite gap_elsewhere by assumption; set (p := table_probs V W (c i)).
    pose proof (square_le_squared_norm V p (y i) y_lt).
    assert (p (y i) < 1) by (now apply softmax_below_one); nra.
Qed.

Lemma inner_at_most_own :
  inner V d W (tabular T c y) (tabular T' c' y') <= inner V d W (tabular T c y) (tabular T c y).
Proof. pose proof (sum_nonneg T gap gap_nonneg); rewrite <- gap_sum in *; lra. Qed.

Lemma inner_below_own (i : nat) : (1 < V)%nat -> (i < T)%nat ->
  (forall j, (j < T')%nat -> c' j = c i -> y' j <> y i) ->
  inner V d W (tabular T c y) (tabular T' c' y') < inner V d W (tabular T c y) (tabular T c y).
Proof.
  intros V_large i_lt other_token; pose proof (gap_positive i V_large i_lt other_token).
  pose proof (term_le_sum T gap i gap_nonneg i_lt); rewrite <- gap_sum in *; lra.
Qed.

End Gap.

Variables (Tw Tl : nat) (cw yw cl yl : nat -> nat).
Hypotheses (w_fits : fits V d Tw cw yw) (l_fits : fits V d Tl cl yl) (w_once : once Tw cw) (l_once : once Tl cl).

Let G := pair_gram V d W (tabular Tw cw yw) (tabular Tl cl yl).

Theorem contexts_once_never_displace (weight : R) : 0 <= weight ->
  0 <= chosen_slope G weight weight /\ rejected_slope G weight weight <= 0.
Proof.
  intros weight_nonneg.
  pose proof (inner_at_most_own Tw Tl cw yw cl yl w_fits l_fits w_once l_once) as chosen_gap.
  pose proof (inner_at_most_own Tl Tw cl yl cw yw l_fits w_fits l_once w_once) as rejected_gap.
  rewrite inner_symmetric in rejected_gap; unfold inner in *; unfold chosen_slope, rejected_slope; simpl; split; nra.
Qed.

(** Strictly, where each response has a token the other one does not have in that context. *)
Theorem contexts_once_separate (weight : R) (i j : nat) : (1 < V)%nat -> 0 < weight ->
  (i < Tw)%nat -> (forall j, (j < Tl)%nat -> cl j = cw i -> yl j <> yw i) ->
  (j < Tl)%nat -> (forall i, (i < Tw)%nat -> cw i = cl j -> yw i <> yl j) -> separates G weight weight.
Proof.
  intros V_large weight_pos i_lt w_differs j_lt l_differs.
  pose proof (inner_below_own Tw Tl cw yw cl yl w_fits l_fits w_once l_once i V_large i_lt w_differs) as chosen_gap.
  pose proof (inner_below_own Tl Tw cl yl cw yw l_fits w_fits l_once w_once j V_large j_lt l_differs) as rejected_gap.
  rewrite inner_symmetric in rejected_gap; unfold inner in *.
  unfold separates, chosen_slope, rejected_slope; simpl; split; nra.
Qed.

End OnceEach.

(** A context that tells its position comes once: position i itself, or the prefix up to i, under any numbering of
    prefixes.  Then one position at which the tokens differ is enough, and the lengths may differ. *)
Theorem telling_contexts_separate (V d : nat) (W : nat -> nat -> R) (Tw Tl : nat) (cw yw cl yl : nat -> nat)
  (weight : R) (m : nat) :
  fits V d Tw cw yw -> fits V d Tl cl yl -> 0 < weight ->
  (forall i j, cw i = cw j -> i = j) -> (forall i j, cl i = cl j -> i = j) -> (forall i j, cw i = cl j -> i = j) ->
  (m < Tw)%nat -> (m < Tl)%nat -> yw m <> yl m ->
  separates (pair_gram V d W (tabular Tw cw yw) (tabular Tl cl yl)) weight weight.
Proof.
  intros w_fits l_fits weight_pos w_tells l_tells across w_has l_has differ.
  apply (contexts_once_separate V d W Tw Tl cw yw cl yl) with (i := m) (j := m);
    try assumption.
  - intros i j _ _; auto.
  - intros i j _ _; auto.
  - destruct (w_fits m w_has), (l_fits m l_has); lia.
  - intros j _ same; apply eq_sym, across in same; subst j; auto.
  - intros i _ same; apply across in same; subst i; assumption.
Qed.

Corollary positional_model_never_displaces (V d : nat) (W : nat -> nat -> R) (Tw Tl : nat) (yw yl : nat -> nat)
  (weight : R) (m : nat) :
  fits V d Tw (fun i => i) yw -> fits V d Tl (fun i => i) yl -> 0 < weight ->
  (m < Tw)%nat -> (m < Tl)%nat -> yw m <> yl m ->
  separates (pair_gram V d W (tabular Tw (fun i => i) yw) (tabular Tl (fun i => i) yl)) weight weight.
Proof. intros; apply telling_contexts_separate with (m := m); auto. Qed.

(** The tokens before position i, the last one first. *)
Fixpoint prefix (y : nat -> nat) (i : nat) : list nat :=
  match i with
  | O => nil
  | S k => y k :: prefix y k
  end.

Lemma prefix_length (y : nat -> nat) (i : nat) : length (prefix y i) = i.
Proof. induction i as [|i IH]; simpl; congruence. Qed.

Lemma prefixes_tell (number : list nat -> nat) (y y' : nat -> nat) (i j : nat) :
  (forall u v, number u = number v -> u = v) -> number (prefix y i) = number (prefix y' j) -> i = j.
Proof.
  intros injective same; apply injective, (f_equal (@length nat)) in same.
  now rewrite !prefix_length in same.
Qed.

Corollary prefix_model_never_displaces (V d : nat) (W : nat -> nat -> R) (Tw Tl : nat) (yw yl : nat -> nat)
  (number : list nat -> nat) (weight : R) (m : nat) : (forall u v, number u = number v -> u = v) ->
  let cw := fun i => number (prefix yw i) in let cl := fun i => number (prefix yl i) in
  fits V d Tw cw yw -> fits V d Tl cl yl -> 0 < weight ->
  (m < Tw)%nat -> (m < Tl)%nat -> yw m <> yl m ->
  separates (pair_gram V d W (tabular Tw cw yw) (tabular Tl cl yl)) weight weight.
Proof.
  intros injective cw cl ? ? ? ? ? ?.
  apply telling_contexts_separate with (m := m); try assumption; intros i j; now apply prefixes_tell.
Qed.

(** There are such numberings, and d need only exceed the numbers of the prefixes that occur. *)
Fixpoint number_of (prefix : list nat) : nat :=
  match prefix with
  | nil => 0
  | t :: rest => S (to_nat (t, number_of rest))
  end.

Example prefixes_can_be_numbered (u v : list nat) : number_of u = number_of v -> u = v.
Proof.
  revert v; induction u as [|t u IH]; intros [|t' v]; cbn [number_of]; intros same; try discriminate; [reflexivity |].
  apply Nat.succ_inj, to_nat_inj in same; injection same as -> same; f_equal; auto.
Qed.

(** Equal weights matter.  Three shared tokens and one contrast token, uniform over three: alone the contrast token
    separates for d_w = 2 d_l, with the shared ones the rejected rises. *)
Example shared_positions_matter_when_weights_differ :
  let positional tokens := tabular (length tokens) (fun i => i) (text tokens) in
  let gram w l := pair_gram 3 (length w) (fun _ _ => 0) (positional w) (positional l) in
  separates (gram (0 :: nil) (1 :: nil))%nat 2 1 /\
  0 < rejected_slope (gram (2 :: 2 :: 2 :: 0 :: nil) (2 :: 2 :: 2 :: 1 :: nil))%nat 2 1.
Proof.
  unfold separates, chosen_slope, rejected_slope; simpl.
  change (frobenius ?V ?d (gradient ?V ?d ?W ?a) (gradient ?V ?d ?W ?b)) with (inner V d W a b).
  rewrite !uniform_positional_inner by (first [lia | apply zero_table_uniform | tokens_below]).
  unfold matches, text, is; simpl; lra.
Qed.

(** So do orthogonal contexts.  Unigram, uniform over three, chosen 0 1 1, rejected 1 1 1: the contrast tokens alone
    separate; the shared tokens, equal to the rejected one, lower the chosen response. *)
Example shared_positions_matter_when_contexts_meet :
  let gram w l := pair_gram 3 1 (fun _ _ => 0) (unigram_text w) (unigram_text l) in
  separates (gram (0 :: nil) (1 :: nil))%nat 1 1 /\
  chosen_slope (gram (0 :: 1 :: 1 :: nil) (1 :: 1 :: 1 :: nil))%nat 1 1 < 0.
Proof.
  unfold separates, chosen_slope, rejected_slope; simpl.
  change (frobenius ?V ?d (gradient ?V ?d ?W ?a) (gradient ?V ?d ?W ?b)) with (inner V d W a b).
  by_counting.
Qed.
