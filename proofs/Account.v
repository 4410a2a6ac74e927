(** * The account of training

    What is stated.  T23: who moved a log-probability, over a whole run.  The gradient of every step is a sum over
    sources (pairs, sides, token positions).

      an optimiser that is linear in the gradients at a given preconditioner, with a memory of its own for each source,
        makes updates for the sources that add up to its update for all, at every step of a run;
      so the sources' contributions Σ_t ⟨γ_t, u_t^a⟩ to a judged response add up to Σ_t ⟨γ_t, u_t⟩, whatever γ_t is;
      in linear softmax the true change over the run is at most that sum, and at least that sum minus the sum over steps
        of T12's Σ_i (max - min)² / 8: the account's error has a sign and a bound.

    SGD, momentum, Nesterov's, and Adam or RMSProp with their second moments taken as given are such optimisers;
    clipping is not.  A term that no gradient caused, such as decoupled weight decay, is a source more.

    Scope.  The path θ_t is the one that training took: gradients and preconditioners may depend on it in any way, which
    is why they are given sequences here.  Real arithmetic; that a program keeps these memories is the tests' business.

    Name                         Meaning
    total n f                    Σ_(a < n) f_a, for vectors with entries of any index
    linear_map L                 L (u + v) = L u + L v and L (a u) = a (L u)
    optimiser                    m_(t+1) = keep_t m_t + take_t g_t, and the update recall_t m_(t+1) + direct_t g_t
    memory o m g t, update …     m_t and u_t from m_0 = m and the gradients g
    contribution … T             Σ_(t < T) ⟨γ_t, u_t⟩
    trajectory W D t             W + D_0 + … + D_(t-1) *)

From Coq Require Import Reals Lra Psatz Lia Arith FunctionalExtensionality.
From Toymodel Require Import Sums Condition Softmax Slopes FiniteStep.
Local Open Scope R_scope.

Section Vectors.
Context {I : Type}.

Definition plus_each (u v : I -> R) (i : I) : R := u i + v i.
Definition scale_each (a : R) (u : I -> R) (i : I) : R := a * u i.
Definition total (n : nat) (f : nat -> I -> R) (i : I) : R := Σ_(a < n) f a i.

Definition linear_map (L : (I -> R) -> I -> R) : Prop :=
  (forall u v, L (plus_each u v) = plus_each (L u) (L v)) /\ (forall a u, L (scale_each a u) = scale_each a (L u)).

Lemma total_zero (f : nat -> I -> R) : total 0 f = scale_each 0 (total 0 f).
Proof. extensionality i; unfold scale_each, total; simpl; ring. Qed.

Lemma total_next (n : nat) (f : nat -> I -> R) : total (S n) f = plus_each (total n f) (f n).
Proof. reflexivity. Qed.

Lemma linear_total (L : (I -> R) -> I -> R) (n : nat) (f : nat -> I -> R) : linear_map L ->
  L (total n f) = total n (fun a => L (f a)).
Proof.
  intros [additive homogeneous]; induction n as [|n IH].
  - rewrite total_zero, homogeneous; extensionality i; unfold scale_each, total; simpl; ring.
  - now rewrite !total_next, additive, IH.
Qed.

Lemma plus_total (n : nat) (f g : nat -> I -> R) :
  plus_each (total n f) (total n g) = total n (fun a => plus_each (f a) (g a)).
Proof. extensionality i; unfold plus_each, total; symmetry; apply sum_plus. Qed.

(** ** Optimisers *)

Record optimiser := Optimiser { keep : nat -> (I -> R) -> I -> R; take : nat -> (I -> R) -> I -> R;
                                recall : nat -> (I -> R) -> I -> R; direct : nat -> (I -> R) -> I -> R }.

Definition linear_optimiser (o : optimiser) : Prop :=
  forall t, linear_map (keep o t) /\ linear_map (take o t) /\ linear_map (recall o t) /\ linear_map (direct o t).

Fixpoint memory (o : optimiser) (m : I -> R) (g : nat -> I -> R) (t : nat) : I -> R :=
  match t with
  | O => m
  | S t' => plus_each (keep o t' (memory o m g t')) (take o t' (g t'))
  end.

Definition update (o : optimiser) (m : I -> R) (g : nat -> I -> R) (t : nat) : I -> R :=
  plus_each (recall o t (memory o m g (S t))) (direct o t (g t)).

Section Sources.
Variables (o : optimiser) (n : nat) (m : I -> R) (ms : nat -> I -> R) (g : nat -> I -> R) (gs : nat -> nat -> I -> R).
Hypothesis o_linear : linear_optimiser o.
Hypothesis memories : m = total n ms.
Hypothesis sources : forall t, g t = total n (fun a => gs a t).

Theorem memory_is_the_sum_over_sources (t : nat) : memory o m g t = total n (fun a => memory o (ms a) (gs a) t).
Proof.
  induction t as [|t IH]; [exact memories |]; destruct (o_linear t) as (keep_linear & take_linear & _).
  simpl; now rewrite IH, sources, (linear_total (keep o t)), (linear_total (take o t)), plus_total.
Qed.

(** T23: exact additivity, at every step. *)
Theorem update_is_the_sum_over_sources (t : nat) : update o m g t = total n (fun a => update o (ms a) (gs a) t).
Proof.
  destruct (o_linear t) as (_ & _ & recall_linear & direct_linear); unfold update.
  rewrite memory_is_the_sum_over_sources, sources, (linear_total (recall o t)), (linear_total (direct o t)); auto.
  apply plus_total.
Qed.

(** *** What every source did to a judged response of gradient γ_t *)

Variable ip : (I -> R) -> (I -> R) -> R.
Hypothesis form : semi_inner_product plus_each scale_each ip.

Definition contribution (γ : nat -> I -> R) (m : I -> R) (g : nat -> I -> R) (T : nat) : R :=
  Σ_(t < T) ip (γ t) (update o m g t).

Lemma ip_total (x : I -> R) (k : nat) (f : nat -> I -> R) : ip x (total k f) = Σ_(a < k) ip x (f a).
Proof.
  rewrite (symmetric _ _ _ form); induction k as [|k IH].
  - rewrite total_zero, (homogeneous _ _ _ form); simpl; ring.
  - rewrite total_next, (additive _ _ _ form), IH, (symmetric _ _ _ form (f k)); reflexivity.
Qed.

(** T23: the account adds up. *)
Theorem contributions_add_up (γ : nat -> I -> R) (T : nat) :
  Σ_(a < n) contribution γ (ms a) (gs a) T = contribution γ m g T.
Proof.
  unfold contribution; rewrite sum_swap; apply sum_ext; intros t _.
  now rewrite update_is_the_sum_over_sources, ip_total.
Qed.

(** A source that is no gradient, w_t: the step is u_t + w_t. *)
Corollary contributions_with_decay_add_up (γ w : nat -> I -> R) (T : nat) :
  (Σ_(a < n) contribution γ (ms a) (gs a) T) + (Σ_(t < T) ip (γ t) (w t))
  = Σ_(t < T) ip (γ t) (plus_each (update o m g t) (w t)).
Proof.
  rewrite contributions_add_up; unfold contribution; rewrite <- sum_plus; apply sum_ext; intros t _.
  rewrite !(symmetric _ _ _ form (γ t)), (additive _ _ _ form); reflexivity.
Qed.

End Sources.

(** *** Which optimisers are of this kind *)

Definition diagonal (c u : I -> R) (i : I) : R := c i * u i.

Lemma diagonal_linear (c : I -> R) : linear_map (diagonal c).
Proof. split; intros; extensionality i; unfold diagonal, plus_each, scale_each; ring. Qed.

Definition entrywise (a b c e : nat -> I -> R) : optimiser :=
  Optimiser (fun t => diagonal (a t)) (fun t => diagonal (b t)) (fun t => diagonal (c t)) (fun t => diagonal (e t)).

Theorem entrywise_optimisers_are_linear (a b c e : nat -> I -> R) : linear_optimiser (entrywise a b c e).
Proof. intros t; repeat split; intros; apply diagonal_linear. Qed.

Definition sgd (η : R) := entrywise (fun _ _ => 0) (fun _ _ => 0) (fun _ _ => 0) (fun _ _ => - η).
Definition momentum (η μ : R) := entrywise (fun _ _ => μ) (fun _ _ => 1) (fun _ _ => - η) (fun _ _ => 0).
Definition nesterov (η μ : R) := entrywise (fun _ _ => μ) (fun _ _ => 1) (fun _ _ => - η * μ) (fun _ _ => - η).

(** Step sizes η_t carry the bias correction; P_t is 1 / (√v_t + ε) at the second moments v_t that the run had. *)
Definition adam (η : nat -> R) (β : R) (P : nat -> I -> R) :=
  entrywise (fun _ _ => β) (fun _ _ => 1 - β) (fun t i => - η t * P t i) (fun _ _ => 0).

Example they_make_the_steps_of_their_names (η μ β : R) (ηs : nat -> R) (P g : nat -> I -> R) (m : I -> R)
  (t : nat) (i : I) :
  update (sgd η) m g t i = - η * g t i /\
  memory (momentum η μ) m g (S t) i = μ * memory (momentum η μ) m g t i + g t i /\
  update (momentum η μ) m g t i = - η * memory (momentum η μ) m g (S t) i /\
  update (nesterov η μ) m g t i = - η * (g t i + μ * memory (nesterov η μ) m g (S t) i) /\
  memory (adam ηs β P) m g (S t) i = β * memory (adam ηs β P) m g t i + (1 - β) * g t i /\
  update (adam ηs β P) m g t i = - ηs t * P t i * memory (adam ηs β P) m g (S t) i.
Proof. unfold update, plus_each; simpl; unfold plus_each, diagonal; repeat split; ring. Qed.

End Vectors.

Arguments optimiser : clear implicits.

(** Clipping is not linear: what it does to two sources together is not what it does to each. *)
Example clipping_is_not_linear : ~ linear_map (fun (u : unit -> R) i => Rmin 1 (u i)).
Proof.
  intros [additive _]; specialize (additive (fun _ => 1) (fun _ => 1)); apply (f_equal (fun u => u tt)) in additive.
  unfold plus_each in additive; rewrite !Rmin_left in additive by lra; lra.
Qed.

(** ** Linear softmax: the remainder over a run *)

Fixpoint trajectory (W : nat -> nat -> R) (D : nat -> nat -> nat -> R) (t : nat) : nat -> nat -> R :=
  match t with
  | O => W
  | S t' => stepped (trajectory W D t') (D t') 1
  end.

Section Run.
Variables (V d : nat) (W : nat -> nat -> R) (D : nat -> nat -> nat -> R) (r : response).
Hypothesis r_in : in_vocabulary V r.

Definition true_change (T : nat) : R := logprob V d (trajectory W D T) r - logprob V d W r.
Definition first_order (T : nat) : R := Σ_(t < T) slope V d (trajectory W D t) r (D t).

(** T23: T12 over a run of any steps. *)
Theorem remainder_of_a_run (T : nat) :
  - (Σ_(t < T) curvature V d r (D t)) <= true_change T - first_order T <= 0.
Proof.
  unfold true_change, first_order; induction T as [|T IH]; [simpl; lra |].
  pose proof (change_at_most_slope V d (trajectory W D T) r (D T) r_in 1) as above.
  pose proof (change_at_least V d (trajectory W D T) r (D T) r_in 1) as below.
  simpl; lra.
Qed.

(** So what falls in the account falls in truth. *)
Corollary a_negative_account_is_a_fall (T : nat) : first_order T < 0 -> true_change T < 0.
Proof. pose proof (remainder_of_a_run T); lra. Qed.

End Run.

(** *** Sources and bounds together: matrices are vectors whose entries have two indices *)

Definition entries (A : nat -> nat -> R) (vk : nat * nat) : R := A (fst vk) (snd vk).
Definition matrix (u : nat * nat -> R) (v k : nat) : R := u (v, k).
Definition entries_ip (V d : nat) (u w : nat * nat -> R) : R := frobenius V d (matrix u) (matrix w).

Lemma entries_form (V d : nat) : semi_inner_product plus_each scale_each (entries_ip V d).
Proof.
  destruct (matrices_form V d) as [symmetric additive homogeneous nonnegative]; unfold entries_ip.
  split; intros; [apply symmetric | apply additive | apply homogeneous | apply nonnegative].
Qed.

Theorem account_of_linear_softmax (V d : nat) (W : nat -> nat -> R) (r : response) (o : optimiser (nat * nat)) (n : nat)
  (m : nat * nat -> R) (ms : nat -> nat * nat -> R) (g : nat -> nat * nat -> R) (gs : nat -> nat -> nat * nat -> R)
  (T : nat) : in_vocabulary V r -> linear_optimiser o ->
  m = total n ms -> (forall t, g t = total n (fun a => gs a t)) ->
  let D t := matrix (update o m g t) in let γ t := entries (gradient V d (trajectory W D t) r) in
  let account := Σ_(a < n) contribution o (entries_ip V d) γ (ms a) (gs a) T in
  account - (Σ_(t < T) curvature V d r (D t)) <= true_change V d W D r T <= account.
Proof.
  intros r_in o_linear memories sources D γ account.
  assert (account = first_order V d W D r T) as ->.
  { unfold account; rewrite (contributions_add_up o n m ms g gs o_linear memories sources _ (entries_form V d)).
    reflexivity. }
  pose proof (remainder_of_a_run V d W D r r_in T); lra.
Qed.
