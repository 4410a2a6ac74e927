(** * More than one pair in a step

    What is stated.  A step may serve many responses at once: it moves the parameters along Σ_i A_i g_i, with a weight
    A_i > 0 on each response it should raise and A_i < 0 on each it should lower.

      T21  groups: the slopes are G A, their weighted sum A^T G A is a squared length, so a response goes the wrong way
           only if another goes the right way; and when a positively weighted response falls ("lazy likelihood
           displacement").  T9's margin and T10's impossible case are the group of two with A = (d_w, -d_l);
      T20  batches: under the mean step of B pairs one pair can have chosen down and rejected up, which no pair alone
           can have; but never all of them, nor any unless the margin of another rises.

    GRPO's weights, normalised rewards, sum to 0.  Nothing here needs that: the weights may be any real numbers.

    Scope.  Real arithmetic in any space with an inner product; floating point is the tests' business, and so is the
    claim that G A are the derivatives of a model's log-probabilities.

    Name                      Meaning
    weighted_sum n A g        Σ_(i < n) A_i g_i, a vector: the step
    gram_matrix ip g          G, the matrix of the inner products G_ij = ⟨g_i, g_j⟩
    group_slope n G A j       (G A)_j: first-order change of log-probability j per unit of step size
    weighted_slopes n G A     A^T G A: Σ_j A_j (G A)_j
    pull_up, pull_down        the parts of (G A)_j from the responses with A_i > 0, and minus those with A_i < 0
    mean_step B dw dl gw gl   u = (1/B) Σ_b (d_w^b g_w^b - d_l^b g_l^b), the step of a batch
    reversed gw gl u b        pair b has chosen down and rejected up along u *)

From Coq Require Import Reals Lra Psatz Lia.
From Toymodel Require Import Sums Condition.
Local Open Scope R_scope.

(** ** Sums and signs *)

Lemma sum_split (n m : nat) (f : nat -> R) : sum (n + m) f = sum n f + Σ_(i < m) f (n + i)%nat.
Proof.
  induction m as [|m IH]; simpl; [now rewrite Nat.add_0_r, Rplus_0_r |].
  rewrite Nat.add_succ_r; simpl; rewrite IH; ring.
Qed.

Lemma some_positive_or_all_at_most_zero (n : nat) (f : nat -> R) :
  (exists k, (k < n)%nat /\ 0 < f k) \/ (forall k, (k < n)%nat -> f k <= 0).
Proof.
  induction n as [|n [(k & k_lt & positive) | none]]; [right; lia | left; exists k; auto with arith |].
  destruct (Rle_lt_dec (f n) 0) as [|positive]; [right | left; exists n; auto with arith].
  intros k k_lt; destruct (Nat.eq_dec k n) as [-> |]; [assumption | apply none; lia].
Qed.

Lemma positive_term_beside_negative (n : nat) (f : nat -> R) (j : nat) :
  0 <= sum n f -> (j < n)%nat -> f j < 0 -> exists k, (k < n)%nat /\ 0 < f k.
Proof.
  intros total j_lt negative; destruct (some_positive_or_all_at_most_zero n f) as [| none]; [assumption | exfalso].
  assert (sum n f <= Σ_(i < n) is j i * f i) as at_most.
  { apply sum_le; intros i i_lt; specialize (none i i_lt).
    unfold is; destruct (Nat.eq_dec j i); lra. }
  rewrite sum_is in at_most by assumption; lra.
Qed.

(** ** T21: groups, as statements on the matrix G *)

Definition group_slope (n : nat) (G : nat -> nat -> R) (A : nat -> R) (j : nat) : R := Σ_(i < n) G j i * A i.

Definition weighted_slopes (n : nat) (G : nat -> nat -> R) (A : nat -> R) : R :=
  Σ_(j < n) A j * group_slope n G A j.

(** One response goes the wrong way only if another goes the right way. *)
Theorem wrong_way_only_beside_right_way (n : nat) (G : nat -> nat -> R) (A : nat -> R) (j : nat) :
  0 <= weighted_slopes n G A -> (j < n)%nat -> A j * group_slope n G A j < 0 ->
  exists k, (k < n)%nat /\ 0 < A k * group_slope n G A k.
Proof. apply (positive_term_beside_negative n (fun i => A i * group_slope n G A i)). Qed.

(** So they are never all of the wrong sign, provided that one weight is not zero. *)
Theorem never_all_the_wrong_way (n : nat) (G : nat -> nat -> R) (A : nat -> R) :
  0 <= weighted_slopes n G A -> (exists j, (j < n)%nat /\ A j <> 0) ->
  ~ (forall j, (j < n)%nat -> (0 < A j -> group_slope n G A j < 0) /\ (A j < 0 -> 0 < group_slope n G A j)).
Proof.
  intros power (j & j_lt & some) all_wrong.
  assert (wrong : forall k, (k < n)%nat -> A k * group_slope n G A k <= 0).
  { intros k k_lt; destruct (all_wrong k k_lt), (Rtotal_order (A k) 0) as [|[-> |]]; nra. }
  destruct (wrong_way_only_beside_right_way n G A j) as (k & k_lt & right); auto.
  - destruct (all_wrong j j_lt), (Rtotal_order (A j) 0) as [|[|]]; nra.
  - specialize (wrong k k_lt); lra.
Qed.

(** It takes a Gram matrix: with entries that no gradients have, both responses of a pair go the wrong way. *)
Example a_matrix_that_is_no_gram_matrix :
  let G i j := if Nat.eqb i j then 1 else 2 in let A i := match i with O => 1 | _ => -1 end in
  group_slope 2 G A 0 < 0 /\ 0 < group_slope 2 G A 1.
Proof. unfold group_slope; simpl; lra. Qed.

(** *** Displacement in a group *)

Definition pull_up (n : nat) (G : nat -> nat -> R) (A : nat -> R) (j : nat) : R := Σ_(i < n) Rmax 0 (A i) * G j i.
Definition pull_down (n : nat) (G : nat -> nat -> R) (A : nat -> R) (j : nat) : R := Σ_(i < n) Rmax 0 (- A i) * G j i.

Lemma positive_minus_negative_part (a : R) : Rmax 0 a - Rmax 0 (- a) = a.
Proof. unfold Rmax; destruct (Rle_dec 0 a), (Rle_dec 0 (- a)); lra. Qed.

Theorem slope_is_pull_up_minus_pull_down (n : nat) (G : nat -> nat -> R) (A : nat -> R) (j : nat) :
  group_slope n G A j = pull_up n G A j - pull_down n G A j.
Proof.
  unfold group_slope, pull_up, pull_down; rewrite <- sum_minus; apply sum_ext; intros i _.
  rewrite <- (positive_minus_negative_part (A i)) at 1; ring.
Qed.

(** T21 says it of a response with A_j > 0; it holds of every response. *)
Theorem response_falls_iff (n : nat) (G : nat -> nat -> R) (A : nat -> R) (j : nat) :
  group_slope n G A j < 0 <-> pull_up n G A j < pull_down n G A j.
Proof. rewrite slope_is_pull_up_minus_pull_down; lra. Qed.

(** Among responses that are entangled with it or indifferent to it, only a negatively weighted one can make it fall. *)
Theorem falls_only_if_entangled_with_a_lowered_one (n : nat) (G : nat -> nat -> R) (A : nat -> R) (j : nat) :
  (forall i, (i < n)%nat -> 0 < A i -> 0 <= G j i) -> group_slope n G A j < 0 ->
  exists i, (i < n)%nat /\ A i < 0 /\ 0 < G j i.
Proof.
  intros own_kind falls.
  destruct (some_positive_or_all_at_most_zero n (fun i => - (G j i * A i))) as [(i & i_lt & down) | none].
  - exists i; specialize (own_kind i i_lt); split; [assumption |].
    destruct (Rtotal_order (A i) 0) as [|[|]]; [split |  |]; nra.
  - assert (0 <= group_slope n G A j); [| lra].
    apply sum_nonneg; intros i i_lt; specialize (none i i_lt); simpl in none; lra.
Qed.

(** ** T21: groups of gradients in any space *)

Section AnySpace.
Variables (V : Type) (plus : V -> V -> V) (scale : R -> V -> V) (ip : V -> V -> R).
Hypothesis form : semi_inner_product plus scale ip.

(** The empty sum is 0 g_0: no other law of a vector space than those of [form] is needed. *)
Fixpoint weighted_sum (n : nat) (A : nat -> R) (g : nat -> V) : V :=
  match n with
  | O => scale 0 (g O)
  | S k => plus (weighted_sum k A g) (scale (A k) (g k))
  end.

Definition gram_matrix (g : nat -> V) (i j : nat) : R := ip (g i) (g j).

Lemma ip_weighted_sum_left (n : nat) (A : nat -> R) (g : nat -> V) (x : V) :
  ip (weighted_sum n A g) x = Σ_(i < n) A i * ip (g i) x.
Proof.
  induction n as [|n IH]; simpl; rewrite ?(additive _ _ _ form), (homogeneous _ _ _ form); [ring | now rewrite IH].
Qed.

Lemma ip_weighted_sum_right (n : nat) (A : nat -> R) (g : nat -> V) (x : V) :
  ip x (weighted_sum n A g) = Σ_(i < n) ip x (g i) * A i.
Proof.
  rewrite (symmetric _ _ _ form), ip_weighted_sum_left; apply sum_ext; intros i _.
  rewrite (symmetric _ _ _ form x); ring.
Qed.

Theorem slopes_are_gram_times_weights (n : nat) (A : nat -> R) (g : nat -> V) (j : nat) :
  ip (g j) (weighted_sum n A g) = group_slope n (gram_matrix g) A j.
Proof. apply ip_weighted_sum_right. Qed.

Theorem weighted_slopes_are_squared_step (n : nat) (A : nat -> R) (g : nat -> V) :
  weighted_slopes n (gram_matrix g) A = ip (weighted_sum n A g) (weighted_sum n A g).
Proof.
  rewrite ip_weighted_sum_left; apply sum_ext; intros j _; now rewrite slopes_are_gram_times_weights.
Qed.

Theorem weighted_slopes_never_negative (n : nat) (A : nat -> R) (g : nat -> V) :
  0 <= weighted_slopes n (gram_matrix g) A.
Proof. rewrite weighted_slopes_are_squared_step; apply (nonnegative _ _ _ form). Qed.

Theorem group_never_all_the_wrong_way (n : nat) (A : nat -> R) (g : nat -> V) :
  let step := weighted_sum n A g in (exists j, (j < n)%nat /\ A j <> 0) ->
  ~ (forall j, (j < n)%nat -> (0 < A j -> ip (g j) step < 0) /\ (A j < 0 -> 0 < ip (g j) step)).
Proof.
  intros step some all_wrong.
  apply (never_all_the_wrong_way n (gram_matrix g) A (weighted_slopes_never_negative n A g) some).
  intros j j_lt; rewrite <- slopes_are_gram_times_weights; auto.
Qed.

(** *** The pair as a group of two: T9's margin, T10's impossible case *)

Definition pair_of {T : Type} (first second : T) (i : nat) : T := match i with O => first | _ => second end.

Theorem pair_is_a_group_of_two (gw gl : V) (dw dl : R) :
  let G := gram_of ip gw gl in let H := gram_matrix (pair_of gw gl) in let A := pair_of dw (- dl) in
  group_slope 2 H A 0 = chosen_slope G dw dl /\ group_slope 2 H A 1 = rejected_slope G dw dl.
Proof.
  unfold group_slope, gram_matrix, chosen_slope, rejected_slope; simpl.
  rewrite (symmetric _ _ _ form gl gw); split; ring.
Qed.

Corollary pair_margin_from_the_group (gw gl : V) (dw dl : R) : let G := gram_of ip gw gl in
  0 <= dw * chosen_slope G dw dl - dl * rejected_slope G dw dl.
Proof.
  destruct (pair_is_a_group_of_two gw gl dw dl) as [chosen rejected]; simpl in *.
  pose proof (weighted_slopes_never_negative 2 (pair_of dw (- dl)) (pair_of gw gl)) as power.
  unfold weighted_slopes in power; simpl in power; rewrite chosen, rejected in power; lra.
Qed.

Corollary pair_never_reversed_from_the_group (gw gl : V) (dw dl : R) : 0 < dw -> 0 < dl ->
  let G := gram_of ip gw gl in ~ (chosen_slope G dw dl < 0 /\ 0 < rejected_slope G dw dl).
Proof.
  intros dw_pos dl_pos; simpl; destruct (pair_is_a_group_of_two gw gl dw dl) as [<- <-]; intros [chosen rejected].
  apply (never_all_the_wrong_way 2 _ _ (weighted_slopes_never_negative 2 (pair_of dw (- dl)) (pair_of gw gl))).
  - exists 0%nat; split; [lia | simpl; lra].
  - intros [|[|j]] j_lt; [| | lia]; split; simpl; intros; lra.
Qed.

(** ** T20: batches of pairs *)

Definition step_of_pair (dw dl : nat -> R) (gw gl : nat -> V) (b : nat) : V :=
  combined V plus scale (dw b) (gw b) (- dl b) (gl b).

Definition mean_step (B : nat) (dw dl : nat -> R) (gw gl : nat -> V) : V :=
  weighted_sum B (fun _ => / INR B) (step_of_pair dw dl gw gl).

Lemma margin_is_inner_product_with_pair_step (dw dl : nat -> R) (gw gl : nat -> V) (b : nat) (u : V) :
  dw b * ip (gw b) u - dl b * ip (gl b) u = ip (step_of_pair dw dl gw gl b) u.
Proof. unfold step_of_pair; rewrite (ip_combine_left _ _ _ _ form); ring. Qed.

(** The same step as a group of 2 B responses, the chosen before the rejected: every slope is the same. *)
Definition first_then {T : Type} (B : nat) (f h : nat -> T) (i : nat) : T := if Nat.ltb i B then f i else h (i - B)%nat.

Definition batch_weights (B : nat) (dw dl : nat -> R) : nat -> R :=
  first_then B (fun b => dw b / INR B) (fun b => - dl b / INR B).

Theorem batch_is_a_group (B : nat) (dw dl : nat -> R) (gw gl : nat -> V) (x : V) :
  ip (mean_step B dw dl gw gl) x = ip (weighted_sum (B + B) (batch_weights B dw dl) (first_then B gw gl)) x.
Proof.
  unfold mean_step; rewrite !ip_weighted_sum_left, sum_split, <- sum_plus; apply sum_ext; intros b b_lt.
  rewrite <- margin_is_inner_product_with_pair_step; unfold batch_weights, first_then.
  rewrite (proj2 (Nat.ltb_lt b B) b_lt), (proj2 (Nat.ltb_ge (B + b) B)) by lia.
  replace (B + b - B)%nat with b by lia; unfold Rdiv; ring.
Qed.

Corollary batch_weighted_slopes (B : nat) (dw dl : nat -> R) (gw gl : nat -> V) : let u := mean_step B dw dl gw gl in
  weighted_slopes (B + B) (gram_matrix (first_then B gw gl)) (batch_weights B dw dl) = ip u u.
Proof.
  simpl; rewrite weighted_slopes_are_squared_step, <- batch_is_a_group, (symmetric _ _ _ form).
  now rewrite <- batch_is_a_group.
Qed.

Theorem batch_margins_are_squared_step (B : nat) (dw dl : nat -> R) (gw gl : nat -> V) : (0 < B)%nat ->
  let u := mean_step B dw dl gw gl in
  Σ_(b < B) (dw b * ip (gw b) u - dl b * ip (gl b) u) = INR B * ip u u.
Proof.
  intros B_pos u; unfold u at 3; unfold mean_step; rewrite ip_weighted_sum_left, <- sum_scale.
  apply sum_ext; intros b _; rewrite margin_is_inner_product_with_pair_step; fold u; field.
  apply not_0_INR; lia.
Qed.

Theorem batch_margins_never_fall (B : nat) (dw dl : nat -> R) (gw gl : nat -> V) : (0 < B)%nat ->
  let u := mean_step B dw dl gw gl in 0 <= Σ_(b < B) (dw b * ip (gw b) u - dl b * ip (gl b) u).
Proof.
  intros B_pos u; unfold u; rewrite batch_margins_are_squared_step by assumption.
  apply Rmult_le_pos; [apply pos_INR | apply (nonnegative _ _ _ form)].
Qed.

Definition reversed (gw gl : nat -> V) (u : V) (b : nat) := ip (gw b) u < 0 /\ 0 < ip (gl b) u.

(** One pair is reversed only if the weighted margin of another one rises: that pair has chosen up or rejected down. *)
Theorem pair_reversed_only_beside_one_that_is_not (B : nat) (dw dl : nat -> R) (gw gl : nat -> V) (b : nat) :
  let u := mean_step B dw dl gw gl in
  (forall a, (a < B)%nat -> 0 < dw a /\ 0 < dl a) -> (b < B)%nat -> reversed gw gl u b ->
  exists a, (a < B)%nat /\ 0 < dw a * ip (gw a) u - dl a * ip (gl a) u /\ (0 < ip (gw a) u \/ ip (gl a) u < 0).
Proof.
  intros u weights b_lt [chosen_down rejected_up].
  destruct (positive_term_beside_negative B (fun a => dw a * ip (gw a) u - dl a * ip (gl a) u) b) as (a & a_lt & up).
  - apply batch_margins_never_fall; lia.
  - exact b_lt.
  - destruct (weights b b_lt); simpl; nra.
  - exists a; repeat split; auto; destruct (weights a a_lt), (Rle_lt_dec (ip (gw a) u) 0); [right | left]; nra.
Qed.

(** Weights must be positive, for one pair already: see [negative_chosen_weight_allows_it]. *)
Theorem batch_never_all_reversed (B : nat) (dw dl : nat -> R) (gw gl : nat -> V) : (0 < B)%nat ->
  (forall b, (b < B)%nat -> 0 < dw b /\ 0 < dl b) ->
  ~ (forall b, (b < B)%nat -> reversed gw gl (mean_step B dw dl gw gl) b).
Proof.
  intros B_pos weights all_reversed.
  destruct (pair_reversed_only_beside_one_that_is_not B dw dl gw gl 0) as (a & a_lt & _ & right_way); auto.
  destruct (all_reversed a a_lt); lra.
Qed.

End AnySpace.

Arguments weighted_sum {V}.
Arguments gram_matrix {V}.
Arguments mean_step {V}.
Arguments reversed {V}.

(** ** Groups and batches in the plane *)

Definition plane_plus (u v : R * R) : R * R := (fst u + fst v, snd u + snd v).
Definition plane_scale (a : R) (v : R * R) : R * R := (a * fst v, a * snd v).
Definition plane_ip (u v : R * R) : R := fst u * fst v + snd u * snd v.

Lemma plane_form : semi_inner_product plane_plus plane_scale plane_ip.
Proof. exact plane_is_such_a_space. Qed.

(** Rewards (1, 0, 0), less their mean and up to a factor: the one right answer falls with the two wrong ones. *)
Example right_answer_displaced_by_wrong_ones :
  let g i := match i with 0%nat => (1, 0) | 1%nat => (3, 1) | _ => (3, -1) end in
  let A i := match i with 0%nat => 2 | _ => -1 end in
  Σ_(i < 3) A i = 0 /\ plane_ip (g 0%nat) (weighted_sum plane_plus plane_scale 3 A g) < 0.
Proof. unfold plane_ip; simpl; lra. Qed.

(** Two pairs with orthogonal gradients, each with chosen up and rejected down alone.  The second is three times as long
    and points against the first, which it reverses. *)
Example one_pair_of_a_batch_reversed :
  let gw b := match b with 0%nat => (1, 0) | _ => (-3, 0) end in
  let gl b := match b with 0%nat => (0, 1) | _ => (0, -3) end in
  (forall b, separates (gram_of plane_ip (gw b) (gl b)) 1 1)
  /\ reversed plane_ip gw gl (mean_step plane_plus plane_scale 2 (fun _ => 1) (fun _ => 1) gw gl) 0.
Proof.
  unfold separates, chosen_slope, rejected_slope, reversed, mean_step, step_of_pair, combined, plane_ip; simpl.
  split; [intros [|b]; simpl; lra |].
  replace (/ (1 + 1)) with (1 / 2) by field; lra.
Qed.
