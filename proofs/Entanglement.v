(** * The entanglement identity

    What is stated.  T2: the inner product of the two gradients is a sum over pairs of tokens, one of each response,

      ⟨g_w, g_l⟩ = Σ_ij s_i^T K(c_i, c'_j) s'_j,

    where K is the tangent kernel of the logits, in any differentiable model; in linear softmax the summands are
    G_ij = ⟨φ_i, φ'_j⟩ ⟨s_i, s'_j⟩.  So the slopes of T9 need features and residuals only, never a gradient.

    Scope.  Identities of finite sums; what it costs to evaluate them is the tests' business.

    Name                       Meaning
    tangent_kernel P J J'      K(c_i, c'_j) = J_i J'_j^T, entry (v, v')
    token_gram V d W w l i j   G_ij, for token i of response w and token j of response l *)

From Coq Require Import Reals Lra Psatz Lia Arith.
From Toymodel Require Import Sums Condition Softmax Slopes.
Local Open Scope R_scope.

(** ** Any differentiable model *)

Definition tangent_kernel (P : nat) (J J' : nat -> nat -> nat -> R) (i j v v' : nat) : R := dot P (J i v) (J' j v').

(** T2 for any Jacobians and any vectors s_i, s'_j. *)
Theorem kernel_identity (P V T T' : nat) (s s' : nat -> nat -> R) (J J' : nat -> nat -> nat -> R) :
  dot P (pullback V T s J) (pullback V T' s' J')
  = Σ_(i < T) Σ_(j < T') Σ_(v < V) Σ_(v' < V) s i v * tangent_kernel P J J' i j v v' * s' j v'.
Proof.
  rewrite pullback_dot; apply sum_ext; intros i _; rewrite sum_swap; apply sum_ext; intros v _.
  rewrite dot_symmetric, pullback_dot, <- sum_scale; apply sum_ext; intros j _.
  rewrite <- sum_scale; apply sum_ext; intros v' _; unfold tangent_kernel; rewrite dot_symmetric; ring.
Qed.

(** T2: with residuals for s and s' these are the two gradients (T1), and the sum is the derivative of one response's
    log-probability along the gradient of the other. *)
Theorem derivative_along_the_other_gradient (P V T T' : nat) (z z' : (nat -> R) -> nat -> nat -> R) (θ : nat -> R)
  (J J' : nat -> nat -> nat -> R) (y y' : nat -> nat) :
  (forall i, (i < T)%nat -> (y i < V)%nat) -> has_jacobian P V T z θ J ->
  let s i := residual V (z θ i) (y i) in let s' j := residual V (z' θ j) (y' j) in
  derivable_pt_lim (fun t => response_logp V T (z (vector_plus θ (vector_scale t (pullback V T' s' J')))) y) 0
    (Σ_(i < T) Σ_(j < T') Σ_(v < V) Σ_(v' < V) s i v * tangent_kernel P J J' i j v v' * s' j v').
Proof.
  intros y_lt jacobian s s'; rewrite <- kernel_identity.
  exact (gradient_is_pulled_back_residuals P V T z θ J y y_lt jacobian (pullback V T' s' J')).
Qed.

(** ** Linear softmax *)

(** There z_v depends on W through e_v φ^T, so the kernel is ⟨φ, φ'⟩ times the identity matrix. *)
Theorem linear_softmax_kernel (V d : nat) (φ φ' : nat -> R) (v v' : nat) : (v < V)%nat ->
  frobenius V d (fun u k => is v u * φ k) (fun u k => is v' u * φ' k) = is v v' * dot d φ φ'.
Proof.
  intros v_lt; unfold frobenius.
  rewrite (sum_ext V _ (fun u => is v u * (is v' u * dot d φ φ'))).
  - rewrite (sum_is V v (fun u => is v' u * dot d φ φ')) by assumption; now rewrite is_symmetric.
  - intros u _; rewrite dot_scale_left, dot_scale_right; reflexivity.
Qed.

Section LinearSoftmax.
Variables (V d : nat) (W : nat -> nat -> R).

Definition token_gram (w l : response) (i j : nat) : R :=
  dot d (feature w i) (feature l j) * dot V (residuals V d W w i) (residuals V d W l j).

Lemma logit_change_along_gradient (w l : response) (i v : nat) :
  logit_change d (gradient V d W l) w i v
  = Σ_(j < size l) dot d (feature w i) (feature l j) * residuals V d W l j v.
Proof.
  unfold logit_change, dot, gradient.
  transitivity (Σ_(k < d) Σ_(j < size l) residuals V d W l j v * (feature w i k * feature l j k)).
  - apply sum_ext; intros k _; rewrite Rmult_comm, <- sum_scale; apply sum_ext; intros j _; ring.
  - rewrite sum_swap; apply sum_ext; intros j _; rewrite sum_scale; ring.
Qed.

(** T2. *)
Theorem entanglement_identity (w l : response) :
  frobenius V d (gradient V d W w) (gradient V d W l) = Σ_(i < size w) Σ_(j < size l) token_gram w l i j.
Proof.
  rewrite gradient_dot; apply sum_ext; intros i _; unfold dot at 1.
  transitivity (Σ_(v < V) Σ_(j < size l)
    dot d (feature w i) (feature l j) * (residuals V d W w i v * residuals V d W l j v)).
  - apply sum_ext; intros v _; rewrite logit_change_along_gradient, <- sum_scale; apply sum_ext; intros j _; ring.
  - rewrite sum_swap; apply sum_ext; intros j _; apply sum_scale.
Qed.

(** The three numbers on which T9, T10 and T11 rest, without a gradient. *)
Theorem pair_gram_from_tokens (w l : response) :
  pair_gram V d W w l
  = Gram (Σ_(i < size w) Σ_(j < size w) token_gram w w i j) (Σ_(i < size l) Σ_(j < size l) token_gram l l i j)
         (Σ_(i < size w) Σ_(j < size l) token_gram w l i j).
Proof. unfold pair_gram, gram_of; now rewrite !entanglement_identity. Qed.

(** Their summands in terms of probabilities, p at position i of w and q at position j of l. *)
Theorem token_gram_in_probabilities (w l : response) (i j : nat) :
  (token w i < V)%nat -> (token l j < V)%nat ->
  let p := softmax V (logits d W w i) in let q := softmax V (logits d W l j) in
  token_gram w l i j
  = dot d (feature w i) (feature l j) * (is (token w i) (token l j) - p (token l j) - q (token w i) + dot V p q).
Proof. intros w_lt l_lt p q; unfold token_gram, residuals; now rewrite residual_dot by assumption. Qed.

(** Responses with orthogonal features do not entangle. *)
Corollary orthogonal_features_do_not_entangle (w l : response) :
  (forall i j, (i < size w)%nat -> (j < size l)%nat -> dot d (feature w i) (feature l j) = 0) ->
  frobenius V d (gradient V d W w) (gradient V d W l) = 0.
Proof.
  intros orthogonal; rewrite entanglement_identity; apply sum_zero; intros i i_lt.
  apply sum_zero; intros j j_lt; unfold token_gram; rewrite orthogonal by assumption; ring.
Qed.

End LinearSoftmax.
