(** * Credit of tokens in a group

    What is stated.  T25: n responses with advantages A share a context with probabilities p, and response i has the
    token y_i there.  The step moves that context's logits along the credit (1/n) Σ_i A_i (e_{y_i} - p), and

      credit = Cov(A, e_y) + mean(A) (p̂ - p), with p̂ the frequencies of the tokens in the group;
      a token that all responses have in a shared context gets nothing where the advantages sum to 0, nor does a
        whole prefix that all responses share;
      the same token after contexts that differ gets minus the covariance of advantage and probability;
      with weights A_i / |y_i| the prefix gets Σ_i A_i / |y_i| times its gradient, which is not 0 where Σ_i A_i is.

    Scope.  Any distribution or vector p for the identities; linear softmax for prefixes.  Real arithmetic.

    Name                       Meaning
    mean n f                   (1/n) Σ_(i < n) f_i
    covariance n f g           the mean of (f_i - mean f)(g_i - mean g)
    credit n A p y v           entry v of the credit, with p_i the probabilities before token i
    share_prefix k r s         r and s have the same first k tokens, features and frozen logits
    prefix_gradient … r k      Σ_(t < k) s_t φ_t^T
    later_gradient … r k       the same from position k on *)

From Coq Require Import Reals Lra Psatz Lia Arith List FunctionalExtensionality.
From Toymodel Require Import Sums Softmax Slopes Suffix FiniteStep Groups.
Local Open Scope R_scope.

Definition mean (n : nat) (f : nat -> R) : R := sum n f / INR n.

Definition covariance (n : nat) (f g : nat -> R) : R := mean n (fun i => (f i - mean n f) * (g i - mean n g)).

Definition credit (n : nat) (A : nat -> R) (p : nat -> nat -> R) (y : nat -> nat) (v : nat) : R :=
  mean n (fun i => A i * residual_of (p i) (y i) v).

Section Group.
Variables (n : nat) (A : nat -> R).
Hypothesis n_pos : (0 < n)%nat.

Lemma covariance_from_means (f g : nat -> R) : covariance n f g = mean n (fun i => f i * g i) - mean n f * mean n g.
Proof.
  pose proof (lt_0_INR n n_pos); unfold covariance, mean at 1.
  rewrite (sum_ext n _ (fun i => f i * g i - mean n g * f i - mean n f * g i + mean n f * mean n g)) by (intros; ring).
  rewrite sum_plus, !sum_minus, !sum_scale, sum_const; unfold mean; field; lra.
Qed.

Lemma mean_minus (f g : nat -> R) : mean n (fun i => f i - g i) = mean n f - mean n g.
Proof. unfold mean; rewrite sum_minus; unfold Rdiv; ring. Qed.

Lemma mean_times (f : nat -> R) (a : R) : mean n (fun i => f i * a) = mean n f * a.
Proof.
  unfold mean; rewrite (sum_ext n _ (fun i => a * f i)), sum_scale by (intros; ring); unfold Rdiv; ring.
Qed.

(** In any contexts: two covariances, and what is left where the advantages do not sum to 0. *)
Theorem credit_by_covariances (p : nat -> nat -> R) (y : nat -> nat) (v : nat) :
  credit n A p y v = covariance n A (fun i => is (y i) v) - covariance n A (fun i => p i v)
                     + mean n A * (mean n (fun i => is (y i) v) - mean n (fun i => p i v)).
Proof.
  rewrite !covariance_from_means; unfold credit, residual_of.
  transitivity (mean n (fun i => A i * is (y i) v - A i * p i v)); [| rewrite mean_minus; ring].
  unfold mean; f_equal; apply sum_ext; intros; ring.
Qed.

(** T25, in one context. *)
Theorem credit_in_a_shared_context (p : nat -> R) (y : nat -> nat) (v : nat) :
  credit n A (fun _ => p) y v
  = covariance n A (fun i => is (y i) v) + mean n A * (mean n (fun i => is (y i) v) - p v).
Proof.
  pose proof (lt_0_INR n n_pos).
  assert (constant : mean n (fun _ => p v) = p v) by (unfold mean; rewrite sum_const; field; lra).
  rewrite credit_by_covariances, !covariance_from_means, constant, mean_times; ring.
Qed.

(** A token that all share, in a context that all share. *)
Theorem shared_token_in_a_shared_context (p : nat -> R) (y : nat -> nat) (j v : nat) :
  (forall i, (i < n)%nat -> y i = j) -> credit n A (fun _ => p) y v = mean n A * residual_of p j v.
Proof.
  intros shared; rewrite <- mean_times; unfold credit, mean; f_equal; apply sum_ext; intros i i_lt; now rewrite shared.
Qed.

Corollary shared_token_gets_nothing (p : nat -> R) (y : nat -> nat) (j v : nat) :
  (forall i, (i < n)%nat -> y i = j) -> sum n A = 0 -> credit n A (fun _ => p) y v = 0.
Proof.
  intros shared balanced; rewrite (shared_token_in_a_shared_context p y j) by assumption.
  unfold mean; rewrite balanced; unfold Rdiv; ring.
Qed.

(** The same token in contexts that differ: it falls where it is likelier in the better responses. *)
Theorem shared_token_after_divergence (p : nat -> nat -> R) (y : nat -> nat) (j v : nat) :
  (forall i, (i < n)%nat -> y i = j) -> sum n A = 0 -> credit n A p y v = - covariance n A (fun i => p i v).
Proof.
  intros shared balanced; rewrite covariance_from_means; unfold credit, mean.
  rewrite (sum_ext n _ (fun i => is j v * A i - A i * p i v)), sum_minus, sum_scale, balanced.
  - unfold Rdiv; ring.
  - intros i i_lt; unfold residual_of; rewrite shared by assumption; ring.
Qed.

End Group.

(** It does not vanish: one right and one wrong answer, the shared token likelier after the right one loses there. *)
Example shared_token_after_divergence_falls :
  let A i := match i with O => 1 | _ => -1 end in let p i (_ : nat) := match i with O => 1/2 | _ => 1/4 end in
  sum 2 A = 0 /\ credit 2 A p (fun _ => 0%nat) 0 = - (1/8).
Proof. unfold credit, mean, residual_of, is; simpl; lra. Qed.

(** ** Prefixes in linear softmax *)

Definition share_prefix (k : nat) (r s : response) : Prop :=
  (k <= size r)%nat /\ (k <= size s)%nat /\
  forall t, (t < k)%nat -> token r t = token s t /\ feature r t = feature s t /\ frozen r t = frozen s t.

Section Prefix.
Variables (V d : nat) (W : nat -> nat -> R).

Definition prefix_gradient (r : response) (k v m : nat) : R := Σ_(t < k) residuals V d W r t v * feature r t m.

Definition later_gradient (r : response) (k v m : nat) : R :=
  Σ_(t < size r - k) residuals V d W r (k + t) v * feature r (k + t) m.

Lemma gradient_split (r : response) (k v m : nat) : (k <= size r)%nat ->
  gradient V d W r v m = prefix_gradient r k v m + later_gradient r k v m.
Proof.
  intros k_le; unfold gradient, prefix_gradient, later_gradient.
  replace (size r) with (k + (size r - k))%nat at 1 by lia.
  now rewrite sum_split.
Qed.

(** The whole prefix earns one number times its gradient: the sum of the weights. *)
Theorem prefix_earns_the_sum_of_weights (n : nat) (c : nat -> R) (r : nat -> response) (s : response) (k v m : nat) :
  (forall i, (i < n)%nat -> share_prefix k (r i) s) ->
  Σ_(i < n) c i * gradient V d W (r i) v m
  = sum n c * prefix_gradient s k v m + Σ_(i < n) c i * later_gradient (r i) k v m.
Proof.
  intros shared; rewrite (Rmult_comm (sum n c)), <- sum_scale, <- sum_plus; apply sum_ext; intros i i_lt.
  destruct (shared i i_lt) as (long & _ & same); rewrite (gradient_split (r i) k) by assumption.
  replace (prefix_gradient (r i) k v m) with (prefix_gradient s k v m); [ring |].
  apply sum_ext; intros t t_lt; destruct (same t t_lt) as (tokens & features & logits_frozen).
  unfold residuals, residual, softmax, partition, logits; now rewrite tokens, features, logits_frozen.
Qed.

(** T25: where the weights sum to 0 it earns nothing. *)
Corollary shared_prefix_gets_nothing (n : nat) (A : nat -> R) (r : nat -> response) (s : response) (k v m : nat) :
  (forall i, (i < n)%nat -> share_prefix k (r i) s) -> sum n A = 0 ->
  Σ_(i < n) A i * gradient V d W (r i) v m = Σ_(i < n) A i * later_gradient (r i) k v m.
Proof.
  intros shared balanced; rewrite (prefix_earns_the_sum_of_weights n A r s k), balanced by assumption; ring.
Qed.

End Prefix.

(** Weights A_i / |y_i| break the cancellation: answers a and a b over {a, b}, uniform, advantages 1 and -1.  The shared
    first token earns half of its gradient, 1/4 for a, although the advantages sum to 0. *)
Example lengths_break_the_cancellation :
  let r i := match i with O => unigram 1 (fun _ => 0%nat) | _ => unigram 2 (fun t => t) end in
  let A i := match i with O => 1 | _ => -1 end in let W (_ _ : nat) := 0 in
  (forall i, (i < 2)%nat -> share_prefix 1 (r i) (r 0%nat)) /\ sum 2 A = 0 /\
  (Σ_(i < 2) A i / INR (size (r i))) * prefix_gradient 2 1 W (r 0%nat) 1 0 0 = 1/4.
Proof.
  intros r A W; split; [| split; [simpl; ring |]].
  - intros [|[|i]] i_lt; [| | lia]; split; simpl; auto; split; auto; intros t t_lt; replace t with 0%nat by lia; auto.
  - assert (logits 1 W (r 0%nat) 0 = fun _ => 0) as uniform by (extensionality v; unfold logits, dot, W; simpl; ring).
    assert (prefix_gradient 2 1 W (r 0%nat) 1 0 0 = 1/2) as ->; [| simpl; lra].
    change (0 + residual 2 (logits 1 W (r 0%nat) 0) 0 0 * 1 = 1/2); rewrite uniform; unfold residual.
    rewrite uniform_softmax, is_same by lia; simpl; lra.
Qed.
