(** * Slopes are derivatives

    What is stated.

      T1   the gradient of a response's log-probability is Σ_i J_i^T s_i: residuals pulled back through the Jacobians of
           the logits, in any differentiable model; in linear softmax its entry (v, k) is Σ_i s_i(v) φ_i(k);
      T9   along the step d_w g_w - d_l g_l the two log-probabilities have the derivatives chosen_slope and
           rejected_slope of the gradients' Gram matrix, so that all of T10 speaks of derivatives; the same with a
           preconditioner; and that step is the direction in which a margin loss descends.

    Scope.  Real arithmetic.  A gradient is what yields all directional derivatives as inner products; that automatic
    differentiation computes it is the tests' business.

    Name                     Meaning
    response_logp V T z y    log π(y) = Σ_i ln p_i(y_i) over T tokens, p_i = softmax (z i)
    gradient_at … f θ g      for every direction δ, t ↦ f (θ + t δ) has derivative ⟨g, δ⟩ at 0
    has_jacobian … z θ J     the same for every logit z θ i v, with gradient J i v, where θ has P entries
    pullback V T s J         Σ_i J_i^T s_i
    frobenius V d A B        Σ_v Σ_k A_vk B_vk, the inner product of two V × d matrices
    response                 T tokens, and for each position its features φ_i ∈ R^d and what is frozen of its logits
    logits d W r i           z_i = z⁰_i + W φ_i: linear softmax; z⁰ = 0 unless part of the model is frozen
    logprob V d W r          log π(y) of that response
    gradient V d W r         Σ_i s_i φ_i^T
    pair_gram V d W w l      the Gram matrix of the gradients of responses w and l
    pair_step … dw dl        d_w g_w - d_l g_l *)

From Coq Require Import Reals Lra Psatz Lia Arith FunctionalExtensionality.
From Toymodel Require Import Sums Condition Softmax.
Local Open Scope R_scope.

Definition response_logp (V T : nat) (z : nat -> nat -> R) (y : nat -> nat) : R := Σ_(i < T) logp V (z i) (y i).

(** ** T1: the residual form *)

Lemma derivative_of_sum (n : nat) (f : nat -> R -> R) (f' : nat -> R) (t : R) :
  (forall i, (i < n)%nat -> derivable_pt_lim (f i) t (f' i)) ->
  derivable_pt_lim (fun s => Σ_(i < n) f i s) t (sum n f').
Proof.
  induction n as [|n IH]; simpl; intros derivative; [apply derivable_pt_lim_const |].
  apply (derivable_pt_lim_plus (fun s => Σ_(i < n) f i s) (f n)); auto.
Qed.

Lemma affine_derivative (a b t : R) : derivable_pt_lim (fun s => a + s * b) t b.
Proof.
  enough (derivable_pt_lim (fun s => a + s * b) t (0 + 1 * b)) as slope by now rewrite Rplus_0_l, Rmult_1_l in slope.
  apply (derivable_pt_lim_plus (fct_cte a) (fun s => s * b)).
  - apply derivable_pt_lim_const.
  - apply (derivable_pt_lim_scal_right id), derivable_pt_lim_id.
Qed.

Lemma lse_derivative (V : nat) (z : R -> nat -> R) (z' : nat -> R) (t : R) : (0 < V)%nat ->
  (forall v, (v < V)%nat -> derivable_pt_lim (fun s => z s v) t (z' v)) ->
  derivable_pt_lim (fun s => lse V (z s)) t (dot V (softmax V (z t)) z').
Proof.
  intros V_pos derivative; pose proof (partition_pos V (z t) V_pos).
  replace (dot V (softmax V (z t)) z') with (/ partition V (z t) * Σ_(v < V) exp (z t v) * z' v).
  - apply (derivable_pt_lim_comp (fun s => partition V (z s)) ln); [| now apply derivable_pt_lim_ln].
    apply derivative_of_sum; intros v v_lt.
    apply (derivable_pt_lim_comp (fun s => z s v) exp); [auto | apply derivable_pt_lim_exp].
  - rewrite <- sum_scale; apply sum_ext; intros v _; unfold softmax, Rdiv; ring.
Qed.

Lemma logp_derivative (V : nat) (z : R -> nat -> R) (z' : nat -> R) (t : R) (y : nat) : (y < V)%nat ->
  (forall v, (v < V)%nat -> derivable_pt_lim (fun s => z s v) t (z' v)) ->
  derivable_pt_lim (fun s => logp V (z s) y) t (dot V (residual V (z t) y) z').
Proof.
  intros y_lt derivative; rewrite residual_dot_vector by assumption.
  apply (derivable_pt_lim_minus (fun s => z s y) (fun s => lse V (z s))); [auto |].
  apply lse_derivative; [lia | assumption].
Qed.

(** T1 along any differentiable curve of logits, at any of its points t. *)
Theorem residual_form (V T : nat) (z : R -> nat -> nat -> R) (z' : nat -> nat -> R) (y : nat -> nat) (t : R) :
  (forall i, (i < T)%nat -> (y i < V)%nat) ->
  (forall i v, (i < T)%nat -> (v < V)%nat -> derivable_pt_lim (fun s => z s i v) t (z' i v)) ->
  derivable_pt_lim (fun s => response_logp V T (z s) y) t
    (Σ_(i < T) Σ_(v < V) residual V (z t i) (y i) v * z' i v).
Proof.
  intros y_lt derivative; apply (derivative_of_sum T (fun i s => logp V (z s i) (y i))).
  intros i i_lt; apply (logp_derivative V (fun s => z s i)); auto.
Qed.

(** ** Gradients *)

Definition gradient_at {E : Type} (plus : E -> E -> E) (scale : R -> E -> E) (ip : E -> E -> R)
  (f : E -> R) (θ g : E) : Prop :=
  forall δ, derivable_pt_lim (fun t => f (plus θ (scale t δ))) 0 (ip g δ).

Definition vector_plus (u v : nat -> R) (p : nat) : R := u p + v p.
Definition vector_scale (a : R) (u : nat -> R) (p : nat) : R := a * u p.

Definition matrix_plus (A B : nat -> nat -> R) (v k : nat) : R := A v k + B v k.
Definition matrix_scale (a : R) (A : nat -> nat -> R) (v k : nat) : R := a * A v k.
Definition frobenius (V d : nat) (A B : nat -> nat -> R) : R := Σ_(v < V) dot d (A v) (B v).

(** Both are spaces in the sense of Condition.v, so all of T9, T10 and T11 holds in them. *)
Theorem vectors_form (P : nat) : semi_inner_product vector_plus vector_scale (dot P).
Proof.
  split; intros; [apply dot_symmetric | apply dot_plus_left | apply dot_scale_left | apply dot_self_nonneg].
Qed.

Theorem matrices_form (V d : nat) : semi_inner_product matrix_plus matrix_scale (frobenius V d).
Proof.
  unfold frobenius; split; intros.
  - apply sum_ext; intros; apply dot_symmetric.
  - rewrite <- sum_plus; apply sum_ext; intros; apply dot_plus_left.
  - rewrite <- sum_scale; apply sum_ext; intros; apply dot_scale_left.
  - apply sum_nonneg; intros; apply dot_self_nonneg.
Qed.

Lemma vector_step_zero (θ δ : nat -> R) : vector_plus θ (vector_scale 0 δ) = θ.
Proof. unfold vector_plus, vector_scale; extensionality p; ring. Qed.

Lemma matrix_step_zero (W D : nat -> nat -> R) : matrix_plus W (matrix_scale 0 D) = W.
Proof. unfold matrix_plus, matrix_scale; extensionality v; extensionality k; ring. Qed.

(** ** T1 for any model with P parameters *)

Definition has_jacobian (P V T : nat) (z : (nat -> R) -> nat -> nat -> R) (θ : nat -> R) (J : nat -> nat -> nat -> R) :=
  forall i v, (i < T)%nat -> (v < V)%nat -> gradient_at vector_plus vector_scale (dot P) (fun θ => z θ i v) θ (J i v).

Definition pullback (V T : nat) (s : nat -> nat -> R) (J : nat -> nat -> nat -> R) (p : nat) : R :=
  Σ_(i < T) Σ_(v < V) s i v * J i v p.

Lemma pullback_dot (P V T : nat) (s : nat -> nat -> R) (J : nat -> nat -> nat -> R) (δ : nat -> R) :
  dot P (pullback V T s J) δ = Σ_(i < T) Σ_(v < V) s i v * dot P (J i v) δ.
Proof.
  unfold dot, pullback.
  transitivity (Σ_(p < P) Σ_(i < T) Σ_(v < V) s i v * (J i v p * δ p)).
  - apply sum_ext; intros p _; rewrite Rmult_comm, <- sum_scale; apply sum_ext; intros i _.
    rewrite <- sum_scale; apply sum_ext; intros v _; ring.
  - rewrite sum_swap; apply sum_ext; intros i _; rewrite sum_swap; apply sum_ext; intros v _; apply sum_scale.
Qed.

(** T1: g = Σ_i J_i^T s_i. *)
Theorem gradient_is_pulled_back_residuals (P V T : nat) (z : (nat -> R) -> nat -> nat -> R) (θ : nat -> R)
  (J : nat -> nat -> nat -> R) (y : nat -> nat) :
  (forall i, (i < T)%nat -> (y i < V)%nat) -> has_jacobian P V T z θ J ->
  gradient_at vector_plus vector_scale (dot P) (fun θ => response_logp V T (z θ) y) θ
    (pullback V T (fun i => residual V (z θ i) (y i)) J).
Proof.
  intros y_lt jacobian δ; rewrite pullback_dot.
  pose proof (residual_form V T (fun t => z (vector_plus θ (vector_scale t δ))) (fun i v => dot P (J i v) δ) y 0) as T1.
  cbv beta in T1; rewrite vector_step_zero in T1; apply T1; [assumption | intros i v i_lt v_lt; now apply jacobian].
Qed.

(** The smallest such model has one logit per token, in every context: its Jacobian is the identity. *)
Example unigram_has_jacobian (V T : nat) (θ : nat -> R) : has_jacobian V V T (fun θ _ => θ) θ (fun _ => is).
Proof.
  intros i v _ v_lt δ; rewrite dot_is_left by assumption.
  unfold vector_plus, vector_scale; apply affine_derivative.
Qed.

(** ** T1 for linear softmax *)

Record response := Response {
  size : nat; token : nat -> nat; frozen : nat -> nat -> R; feature : nat -> nat -> R }.

Definition in_vocabulary (V : nat) (r : response) : Prop := forall i, (i < size r)%nat -> (token r i < V)%nat.

Definition logits (d : nat) (W : nat -> nat -> R) (r : response) (i v : nat) : R :=
  frozen r i v + dot d (W v) (feature r i).

Definition logprob (V d : nat) (W : nat -> nat -> R) (r : response) : R :=
  response_logp V (size r) (logits d W r) (token r).

Definition residuals (V d : nat) (W : nat -> nat -> R) (r : response) (i : nat) : nat -> R :=
  residual V (logits d W r i) (token r i).

Definition gradient (V d : nat) (W : nat -> nat -> R) (r : response) (v k : nat) : R :=
  Σ_(i < size r) residuals V d W r i v * feature r i k.

(** What a change D of W adds to the logits. *)
Definition logit_change (d : nat) (D : nat -> nat -> R) (r : response) (i v : nat) : R := dot d (D v) (feature r i).

Lemma logits_along (d : nat) (W D : nat -> nat -> R) (r : response) (t : R) (i v : nat) :
  logits d (matrix_plus W (matrix_scale t D)) r i v = logits d W r i v + t * logit_change d D r i v.
Proof.
  unfold logits, logit_change, matrix_plus, matrix_scale.
  rewrite dot_plus_left, dot_scale_left; ring.
Qed.

Lemma gradient_dot (V d : nat) (W D : nat -> nat -> R) (r : response) :
  frobenius V d (gradient V d W r) D
  = Σ_(i < size r) dot V (residuals V d W r i) (logit_change d D r i).
Proof.
  unfold frobenius; unfold dot at 2; rewrite sum_swap; apply sum_ext; intros v _.
  unfold dot, gradient, logit_change.
  transitivity (Σ_(k < d) Σ_(i < size r) residuals V d W r i v * (D v k * feature r i k)).
  - apply sum_ext; intros k _; rewrite Rmult_comm, <- sum_scale; apply sum_ext; intros i _; ring.
  - rewrite sum_swap; apply sum_ext; intros i _; apply sum_scale.
Qed.

Theorem linear_softmax_gradient (V d : nat) (W : nat -> nat -> R) (r : response) : in_vocabulary V r ->
  gradient_at matrix_plus matrix_scale (frobenius V d) (fun W => logprob V d W r) W (gradient V d W r).
Proof.
  intros y_lt D; rewrite gradient_dot.
  pose proof (residual_form V (size r) (fun t => logits d (matrix_plus W (matrix_scale t D)) r)
                (logit_change d D r) (token r) 0 y_lt) as T1.
  cbv beta in T1; rewrite matrix_step_zero in T1; apply T1; intros i v _ _.
  apply (derivable_pt_lim_ext (fun t => logits d W r i v + t * logit_change d D r i v)).
  - intros t; symmetry; apply logits_along.
  - apply affine_derivative.
Qed.

(** Entry (v, k) of the gradient is the partial derivative with respect to W_vk. *)
Theorem gradient_entry_is_partial_derivative (V d : nat) (W : nat -> nat -> R) (r : response) (v k : nat) :
  in_vocabulary V r -> (v < V)%nat -> (k < d)%nat ->
  derivable_pt_lim (fun t => logprob V d (fun v' k' => W v' k' + t * (is v v' * is k k')) r) 0 (gradient V d W r v k).
Proof.
  intros y_lt v_lt k_lt; pose proof (linear_softmax_gradient V d W r y_lt (fun v' k' => is v v' * is k k')) as slope.
  replace (gradient V d W r v k) with (frobenius V d (gradient V d W r) (fun v' k' => is v v' * is k k'));
    [exact slope | unfold frobenius].
  rewrite <- (sum_is V v (fun v' => gradient V d W r v' k)) by assumption; apply sum_ext; intros v' _.
  now rewrite dot_scale_right, dot_symmetric, dot_is_left by assumption.
Qed.

(** ** T9: the slopes are the derivatives along the step *)

Theorem slopes_are_derivatives {E : Type} plus scale (ip : E -> E -> R) (chosen rejected : E -> R) (θ gw gl : E)
  (dw dl : R) : semi_inner_product plus scale ip ->
  gradient_at plus scale ip chosen θ gw -> gradient_at plus scale ip rejected θ gl ->
  let G := gram_of ip gw gl in let step := combined E plus scale dw gw (- dl) gl in
  derivable_pt_lim (fun η => chosen (plus θ (scale η step))) 0 (chosen_slope G dw dl) /\
  derivable_pt_lim (fun η => rejected (plus θ (scale η step))) 0 (rejected_slope G dw dl).
Proof.
  intros form gw_is gl_is; cbv zeta; destruct (slopes_along_the_step E plus scale ip form gw gl dw dl) as [<- <-].
  split; [apply gw_is | apply gl_is].
Qed.

(** T10's impossible case, said of the derivatives themselves. *)
Theorem derivatives_chosen_down_rejected_up_never {E : Type} plus scale (ip : E -> E -> R) (chosen rejected : E -> R)
  (θ gw gl : E) (dw dl chosen' rejected' : R) : semi_inner_product plus scale ip ->
  gradient_at plus scale ip chosen θ gw -> gradient_at plus scale ip rejected θ gl -> 0 < dw -> 0 < dl ->
  let step := combined E plus scale dw gw (- dl) gl in
  derivable_pt_lim (fun η => chosen (plus θ (scale η step))) 0 chosen' ->
  derivable_pt_lim (fun η => rejected (plus θ (scale η step))) 0 rejected' ->
  ~ (chosen' < 0 /\ 0 < rejected').
Proof.
  intros form gw_is gl_is dw_pos dl_pos step chosen_is rejected_is.
  destruct (slopes_are_derivatives plus scale ip chosen rejected θ gw gl dw dl form gw_is gl_is) as [up down].
  rewrite (uniqueness_limite _ _ _ _ chosen_is up).
  rewrite (uniqueness_limite _ _ _ _ rejected_is down).
  now apply (chosen_down_rejected_up_never_in_any_space E plus scale).
Qed.

(** With a preconditioner P the step is P (d_w g_w - d_l g_l), and every inner product is ⟨u, P v⟩. *)
Theorem preconditioned_slopes_are_derivatives {E : Type} plus scale (ip : E -> E -> R) (P : E -> E)
  (chosen rejected : E -> R) (θ gw gl : E) (dw dl : R) : semi_inner_product plus scale ip ->
  (forall u v, ip (P u) v = ip u (P v)) -> (forall v, 0 <= ip v (P v)) ->
  gradient_at plus scale ip chosen θ gw -> gradient_at plus scale ip rejected θ gl ->
  let G := gram_of (fun u v => ip u (P v)) gw gl in let step := P (combined E plus scale dw gw (- dl) gl) in
  derivable_pt_lim (fun η => chosen (plus θ (scale η step))) 0 (chosen_slope G dw dl) /\
  derivable_pt_lim (fun η => rejected (plus θ (scale η step))) 0 (rejected_slope G dw dl).
Proof.
  intros form self_adjoint positive gw_is gl_is; cbv zeta.
  pose proof (preconditioned_form plus scale ip P form self_adjoint positive) as form_P.
  destruct (slopes_along_the_step E plus scale _ form_P gw gl dw dl) as [<- <-].
  split; [apply gw_is | apply gl_is].
Qed.

(** That step is minus the gradient of ℓ = -[m(h_w(log π_w) - h_l(log π_l)) + Λ(log π_w)], with d_w = m′h_w′ + Λ′ and
    d_l = m′h_l′: a descent step of the loss is a step along d_w g_w - d_l g_l. *)
Theorem margin_loss_descends_along_the_step {E : Type} plus scale (ip : E -> E -> R) (chosen rejected : E -> R)
  (θ gw gl δ : E) (m hw hl Λ : R -> R) (m' hw' hl' Λ' : R) :
  semi_inner_product plus scale ip -> plus θ (scale 0 δ) = θ ->
  gradient_at plus scale ip chosen θ gw -> gradient_at plus scale ip rejected θ gl ->
  derivable_pt_lim hw (chosen θ) hw' -> derivable_pt_lim hl (rejected θ) hl' -> derivable_pt_lim Λ (chosen θ) Λ' ->
  derivable_pt_lim m (hw (chosen θ) - hl (rejected θ)) m' ->
  let dw := m' * hw' + Λ' in let dl := m' * hl' in
  derivable_pt_lim
    (fun t => let x := plus θ (scale t δ) in - (m (hw (chosen x) - hl (rejected x)) + Λ (chosen x))) 0
    (- ip (combined E plus scale dw gw (- dl) gl) δ).
Proof.
  intros form no_step gw_is gl_is hw_is hl_is Λ_is m_is dw dl.
  pose (cw := fun t => chosen (plus θ (scale t δ))); pose (cl := fun t => rejected (plus θ (scale t δ))).
  assert (cw 0 = chosen θ) as cw_0 by (unfold cw; now rewrite no_step).
  assert (cl 0 = rejected θ) as cl_0 by (unfold cl; now rewrite no_step).
  rewrite <- cw_0 in hw_is, Λ_is, m_is; rewrite <- cl_0 in hl_is, m_is.
  rewrite (ip_combine_left E plus scale ip form).
  replace (dw * ip gw δ + - dl * ip gl δ) with (m' * (hw' * ip gw δ - hl' * ip gl δ) + Λ' * ip gw δ)
    by (unfold dw, dl; ring).
  apply (derivable_pt_lim_opp (fun t => m (hw (cw t) - hl (cl t)) + Λ (cw t))).
  apply (derivable_pt_lim_plus (fun t => m (hw (cw t) - hl (cl t))) (fun t => Λ (cw t))).
  - apply (derivable_pt_lim_comp (fun t => hw (cw t) - hl (cl t)) m); [| assumption].
    apply (derivable_pt_lim_minus (fun t => hw (cw t)) (fun t => hl (cl t))).
    + apply (derivable_pt_lim_comp cw hw); [apply gw_is | assumption].
    + apply (derivable_pt_lim_comp cl hl); [apply gl_is | assumption].
  - apply (derivable_pt_lim_comp cw Λ); [apply gw_is | assumption].
Qed.

(** In any differentiable model with P parameters, from residuals and Jacobians. *)
Corollary model_slopes_are_derivatives (P V Tw Tl : nat) (zw zl : (nat -> R) -> nat -> nat -> R) (θ : nat -> R)
  (Jw Jl : nat -> nat -> nat -> R) (yw yl : nat -> nat) (dw dl : R) :
  (forall i, (i < Tw)%nat -> (yw i < V)%nat) -> (forall i, (i < Tl)%nat -> (yl i < V)%nat) ->
  has_jacobian P V Tw zw θ Jw -> has_jacobian P V Tl zl θ Jl ->
  let gw := pullback V Tw (fun i => residual V (zw θ i) (yw i)) Jw in
  let gl := pullback V Tl (fun i => residual V (zl θ i) (yl i)) Jl in
  let G := gram_of (dot P) gw gl in
  let θ_at η := vector_plus θ (vector_scale η (combined _ vector_plus vector_scale dw gw (- dl) gl)) in
  derivable_pt_lim (fun η => response_logp V Tw (zw (θ_at η)) yw) 0 (chosen_slope G dw dl) /\
  derivable_pt_lim (fun η => response_logp V Tl (zl (θ_at η)) yl) 0 (rejected_slope G dw dl).
Proof.
  intros yw_lt yl_lt w_jacobian l_jacobian gw gl.
  apply (slopes_are_derivatives vector_plus vector_scale (dot P)
           (fun θ => response_logp V Tw (zw θ) yw) (fun θ => response_logp V Tl (zl θ) yl) θ gw gl);
    [apply vectors_form | now apply gradient_is_pulled_back_residuals | now apply gradient_is_pulled_back_residuals].
Qed.

(** ** T9 for a pair of responses in linear softmax *)

Section Pair.
Variables (V d : nat) (W : nat -> nat -> R) (w l : response).

Definition pair_gram : gram := gram_of (frobenius V d) (gradient V d W w) (gradient V d W l).

Definition pair_step (dw dl : R) : nat -> nat -> R :=
  combined _ matrix_plus matrix_scale dw (gradient V d W w) (- dl) (gradient V d W l).

Definition stepped (D : nat -> nat -> R) (η : R) : nat -> nat -> R := matrix_plus W (matrix_scale η D).

Theorem pair_gram_psd : psd pair_gram.
Proof. apply (gram_of_psd _ matrix_plus matrix_scale), matrices_form. Qed.

Theorem pair_slopes_are_derivatives (dw dl : R) : in_vocabulary V w -> in_vocabulary V l ->
  derivable_pt_lim (fun η => logprob V d (stepped (pair_step dw dl) η) w) 0 (chosen_slope pair_gram dw dl) /\
  derivable_pt_lim (fun η => logprob V d (stepped (pair_step dw dl) η) l) 0 (rejected_slope pair_gram dw dl).
Proof.
  intros w_in l_in.
  apply (slopes_are_derivatives matrix_plus matrix_scale (frobenius V d)
           (fun W => logprob V d W w) (fun W => logprob V d W l));
    [apply matrices_form | now apply linear_softmax_gradient | now apply linear_softmax_gradient].
Qed.

End Pair.
