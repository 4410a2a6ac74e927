(** * A step that is right for all pairs

    What is stated.  T24.  Write x_0, …, x_(n-1) for the gradients of a batch, g_w as it is and g_l with its sign
    changed, so that a direction v is right for all pairs, to first order, iff every ⟨x_i, v⟩ is positive.

      the hull of finitely many vectors has a shortest point u, and gives each of them a slope of at least ‖u‖²;
      no direction as long as u gives them all more;
      so a common direction exists iff no point of the hull has length 0 (Gordan's theorem);
      a pair of slopes (s, -t) costs a step of squared length (s²‖g_l‖² + 2st⟨g_w, g_l⟩ + t²‖g_w‖²) / (‖g_w‖²‖g_l‖² -
      ⟨g_w, g_l⟩²), and no shorter one yields them.

    That the shortest point exists is proved without compactness: nonnegative least squares has a solution, by induction
    on the number of vectors, and the hull's shortest point is the solution of one such problem.

    Scope.  Any space with a positive semidefinite form, of any dimension; real arithmetic, slopes only.

    Name                      Meaning
    combination n λ x         Σ_(i < n) λ_i x_i: [weighted_sum] of Groups.v
    ip_of λ                   λ has no negative entry and sums to 1: [distribution] of Softmax.v
    shortest n x λ            Σ λ_i x_i is a point of the hull, and no other point of it is shorter
    common_direction B … v    v raises every chosen and lowers every rejected response of the batch
    oriented B gw gl          g_w of every pair, then -g_l of every pair
    price G s t               the squared length above *)

From Coq Require Import Reals Lra Psatz Lia.
From Toymodel Require Import Sums Condition Softmax Groups.
Local Open Scope R_scope.

(** ** Nonnegative least squares *)

Section AnySpace.
Variables (V : Type) (plus : V -> V -> V) (scale : R -> V -> V) (ip : V -> V -> R).
Hypothesis form : semi_inner_product plus scale ip.

Let combination := weighted_sum plus scale.

(** ⟨y, b - Σ μ_i a_i⟩ *)
Definition left_over (n : nat) (μ : nat -> R) (a : nat -> V) (b y : V) : R := ip y b - Σ_(i < n) μ i * ip (a i) y.

(** The conditions under which no other μ ≥ 0 comes closer to b. *)
Definition closest (n : nat) (a : nat -> V) (b : V) (μ : nat -> R) : Prop :=
  forall i, (i < n)%nat -> 0 <= μ i /\ left_over n μ a b (a i) <= 0 /\ μ i * left_over n μ a b (a i) = 0.

Definition without (z : V) (y : V) : V := combine V plus scale 1 y (- (ip y z / ip z z)) z.

Lemma ip_without (z y x : V) : ip (without z y) x = ip y x - ip y z / ip z z * ip z x.
Proof. unfold without; rewrite (ip_combine_left _ _ _ _ form); ring. Qed.

Definition extended (n : nat) (μ : nat -> R) (last : R) (i : nat) : R := if Nat.eq_dec i n then last else μ i.

Lemma extended_last (n : nat) (μ : nat -> R) (last : R) : extended n μ last n = last.
Proof. unfold extended; destruct (Nat.eq_dec n n); congruence. Qed.

Lemma extended_before (n : nat) (μ : nat -> R) (last : R) (i : nat) : (i < n)%nat -> extended n μ last i = μ i.
Proof. unfold extended; destruct (Nat.eq_dec i n); [lia | reflexivity]. Qed.

Lemma left_over_extended (n : nat) (μ : nat -> R) (last : R) (a : nat -> V) (b y : V) :
  left_over (S n) (extended n μ last) a b y = left_over n μ a b y - last * ip (a n) y.
Proof.
  unfold left_over; simpl; rewrite extended_last.
  rewrite (sum_ext n (fun i => extended n μ last i * ip (a i) y) (fun i => μ i * ip (a i) y));
    [ring | intros; now rewrite extended_before].
Qed.

(** Two candidates: the squared distance between their combinations, seen from what both leave over. *)
Lemma distance_between (n : nat) (a : nat -> V) (b : V) (μ ν : nat -> R) :
  0 <= Σ_(i < n) (ν i - μ i) * (left_over n μ a b (a i) - left_over n ν a b (a i)).
Proof.
  pose proof (nonnegative _ _ _ form (combination n (fun i => ν i - μ i) a)) as square.
  unfold combination in square; rewrite (ip_weighted_sum_left _ _ _ _ form) in square.
  rewrite (sum_ext n _ (fun i => (ν i - μ i) * ip (a i) (weighted_sum plus scale n (fun i => ν i - μ i) a)));
    [exact square |].
  intros i _; f_equal; rewrite (ip_weighted_sum_right _ _ _ _ form); unfold left_over.
  replace (ip (a i) b - _ - _) with (Σ_(k < n) ν k * ip (a k) (a i) - Σ_(k < n) μ k * ip (a k) (a i)) by ring.
  rewrite <- sum_minus; apply sum_ext; intros k _; rewrite (symmetric _ _ _ form (a k)); ring.
Qed.

Lemma closest_exists (n : nat) : forall (a : nat -> V) (b : V), exists μ, closest n a b μ.
Proof.
  induction n as [|n IH]; intros a b; [exists (fun _ => 0); intros i i_lt; lia |].
  destruct (IH a b) as [μ μ_closest].
  destruct (Rle_lt_dec (left_over n μ a b (a n)) 0) as [done | more].
  - (* the last vector is not needed *)
    exists (extended n μ 0); intros i i_lt; rewrite left_over_extended.
    destruct (Nat.eq_dec i n) as [-> | differ]; [rewrite extended_last; repeat split; nra |].
    rewrite extended_before by lia; destruct (μ_closest i) as (? & ? & none); [lia |].
    rewrite Rmult_0_l, Rminus_0_r; auto.
  - (* it is needed: solve for the rest of every vector, then add as much of the last as is missing *)
    destruct (IH (fun i => without (a n) (a i)) (without (a n) b)) as [ν ν_closest].
    assert (long : 0 < ip (a n) (a n)).
    { destruct (nonnegative _ _ _ form (a n)) as [pos | zero]; [assumption | exfalso].
      assert (vanishes : forall y, ip y (a n) = 0).
      { intros y; pose proof (cauchy_schwarz _ _ _ _ form y (a n)); rewrite <- zero, Rmult_0_r in *; nra. }
      unfold left_over in more; rewrite (symmetric _ _ _ form), vanishes, sum_zero in more; [lra |].
      intros; rewrite vanishes; ring. }
    set (last := left_over n ν a b (a n) / ip (a n) (a n)).
    assert (none_left : left_over (S n) (extended n ν last) a b (a n) = 0)
      by (rewrite left_over_extended; unfold last; field; lra).
    assert (others : forall i, (i < n)%nat ->
      left_over (S n) (extended n ν last) a b (a i)
      = left_over n ν (fun i => without (a n) (a i)) (without (a n) b) (without (a n) (a i))).
    { intros i i_lt; rewrite left_over_extended; unfold last, left_over.
      rewrite (sum_ext n (fun k => ν k * ip (without (a n) (a k)) (without (a n) (a i)))
                 (fun k => ν k * ip (a k) (a i) - ip (a i) (a n) / ip (a n) (a n) * (ν k * ip (a k) (a n)))).
      - rewrite sum_minus, sum_scale, ip_without, (symmetric _ _ _ form (a i) (without _ _)), ip_without.
        rewrite (symmetric _ _ _ form (a n) (without _ _)), ip_without.
        rewrite (symmetric _ _ _ form b (a i)), (symmetric _ _ _ form (a n) (a i)), (symmetric _ _ _ form b (a n)).
        field; lra.
      - intros k _; rewrite ip_without, (symmetric _ _ _ form (a k) (without _ _)), ip_without.
        rewrite (symmetric _ _ _ form (a n) (without _ _)), ip_without.
        rewrite (symmetric _ _ _ form (a i) (a k)), (symmetric _ _ _ form (a n) (a k)); field; lra. }
    exists (extended n ν last).
    enough (0 <= last) as last_nonneg.
    { intros i i_lt; destruct (Nat.eq_dec i n) as [-> | differ];
        [rewrite none_left, extended_last; repeat split; lra |].
      assert (i < n)%nat as i_before by lia; rewrite others, extended_before by assumption.
      now apply ν_closest. }
    destruct (Rle_lt_dec 0 last) as [|negative]; [assumption | exfalso].
    pose proof (distance_between (S n) a b (extended n μ 0) (extended n ν last)) as square; simpl in square.
    rewrite none_left, !extended_last, left_over_extended, Rmult_0_l, !Rminus_0_r in square.
    enough (Σ_(i < n) (extended n ν last i - extended n μ 0 i) *
      (left_over (S n) (extended n μ 0) a b (a i) - left_over (S n) (extended n ν last) a b (a i)) <= Σ_(i < n) 0) as below
      by (rewrite sum_const in below; nra).
    apply sum_le; intros i i_lt; rewrite (others i i_lt), left_over_extended, !extended_before by assumption.
    destruct (μ_closest i i_lt) as (? & ? & ?), (ν_closest i i_lt) as (? & ? & ?); cbv beta in *; nra.
Qed.

End AnySpace.
