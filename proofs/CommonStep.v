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
    combination n λ x         Σ_(i < n) λ_i x_i: [weighted_sum] of Groups.v; with a [distribution] λ a point of the hull
    shortest n x λ            Σ λ_i x_i is a point of the hull, and no other point of it is shorter
    common_direction B … v    v raises every chosen and lowers every rejected response of the batch
    oriented B gw gl          g_w of every pair, then -g_l of every pair
    price G s t               the squared length above *)

From Coq Require Import Reals Lra Psatz Lia.
From Toymodel Require Import Sums Condition Softmax Groups.
Local Open Scope R_scope.

(** ** Nonnegative least squares *)

Section LeastSquares.
Variables (V : Type) (plus : V -> V -> V) (scale : R -> V -> V) (ip : V -> V -> R).
Hypothesis form : semi_inner_product plus scale ip.

Let combination := weighted_sum plus scale.

(** ⟨y, b - Σ μ_i a_i⟩ *)
Definition left_over (n : nat) (μ : nat -> R) (a : nat -> V) (b y : V) : R := ip y b - Σ_(i < n) μ i * ip (a i) y.

(** The conditions under which no other μ ≥ 0 comes closer to b. *)
Definition closest (n : nat) (a : nat -> V) (b : V) (μ : nat -> R) : Prop :=
  forall i, (i < n)%nat -> 0 <= μ i /\ left_over n μ a b (a i) <= 0 /\ μ i * left_over n μ a b (a i) = 0.

Definition without (z : V) (y : V) : V := combined V plus scale 1 y (- (ip y z / ip z z)) z.

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
    enough (Σ_(i < n) (extended n ν last i - extended n μ 0 i) * (left_over (S n) (extended n μ 0) a b (a i)
      - left_over (S n) (extended n ν last) a b (a i)) <= Σ_(i < n) 0) as below by (rewrite sum_const in below; nra).
    apply sum_le; intros i i_lt; rewrite (others i i_lt), left_over_extended, !extended_before by assumption.
    destruct (μ_closest i i_lt) as (? & ? & ?), (ν_closest i i_lt) as (? & ? & ?); cbv beta in *; nra.
Qed.

End LeastSquares.

Arguments closest_exists {V plus scale ip}.

(** ** The shortest point of a hull *)

Section Hull.
Variables (V : Type) (plus : V -> V -> V) (scale : R -> V -> V) (ip : V -> V -> R).
Hypothesis form : semi_inner_product plus scale ip.

Let combination := weighted_sum plus scale.

Definition shortest (n : nat) (x : nat -> V) (λ : nat -> R) : Prop := let u := combination n λ x in
  distribution n λ /\ forall μ, distribution n μ -> ip u u <= ip (combination n μ x) (combination n μ x).

Lemma combination_dot (n : nat) (μ : nat -> R) (x : nat -> V) (y : V) :
  ip (combination n μ x) y = Σ_(i < n) μ i * ip (x i) y.
Proof. apply (ip_weighted_sum_left _ _ _ _ form). Qed.

(** A weighted mean is at least its least term. *)
Lemma weighted_mean_at_least (n : nat) (μ f : nat -> R) (m : R) : distribution n μ ->
  (forall i, (i < n)%nat -> m <= f i) -> m <= Σ_(i < n) μ i * f i.
Proof.
  intros [nonneg total] least; rewrite <- (Rmult_1_r m), <- total, <- sum_scale; apply sum_le; intros i i_lt.
  specialize (nonneg i i_lt); specialize (least i i_lt); nra.
Qed.

Lemma weighted_mean_pos (n : nat) (μ f : nat -> R) : distribution n μ ->
  (forall i, (i < n)%nat -> 0 < f i) -> 0 < Σ_(i < n) μ i * f i.
Proof.
  intros [nonneg total] pos.
  destruct (some_positive_or_all_at_most_zero n μ) as [(k & k_lt & some) | none].
  - apply Rlt_le_trans with (μ k * f k); [specialize (pos k k_lt); nra |].
    apply (term_le_sum n (fun i => μ i * f i)); [| assumption].
    intros i i_lt; specialize (nonneg i i_lt); specialize (pos i i_lt); nra.
  - pose proof (sum_le n μ (fun _ => 0) none) as small; rewrite sum_const in small; lra.
Qed.

Lemma distribution_towards (n : nat) (λ : nat -> R) (t : R) (i : nat) : distribution n λ -> (i < n)%nat -> 0 <= t <= 1 ->
  distribution n (fun k => (1 - t) * λ k + t * is i k).
Proof.
  intros [nonneg total] i_lt between; split.
  - intros k k_lt; specialize (nonneg k k_lt); unfold is; destruct (Nat.eq_dec i k); nra.
  - rewrite sum_plus, !sum_scale, total, (sum_ext n (is i) (fun k => is i k * 1)) by (intros; ring).
    rewrite (sum_is n i (fun _ => 1)) by assumption; ring.
Qed.

(** T24: the slope bound. *)
Theorem shortest_point_gives_every_slope (n : nat) (x : nat -> V) (λ : nat -> R) (i : nat) :
  shortest n x λ -> (i < n)%nat -> let u := combination n λ x in ip u u <= ip (x i) u.
Proof.
  intros [hull least] i_lt u; destruct (Rle_lt_dec (ip u u) (ip (x i) u)) as [|less]; [assumption | exfalso].
  pose proof (nonnegative _ _ _ form (combined V plus scale 1 (x i) (-1) u)) as square.
  rewrite (ip_combine_left _ _ _ _ form), !(ip_combine_right _ _ _ _ form), (symmetric _ _ _ form u (x i)) in square.
  set (δ := ip u u - ip (x i) u) in *; set (N := ip (x i) (x i) - 2 * ip (x i) u + ip u u) in *.
  assert (0 < δ /\ 0 <= N) as [δ_pos N_nonneg] by (unfold δ, N; lra).
  pose (t := δ / (N + δ)); assert (t * (N + δ) = δ) as t_is by (unfold t; field; lra).
  assert (0 < t <= 1) as between by (split; nra).
  set (z := combination n (fun k => (1 - t) * λ k + t * is i k) x).
  assert (moved : forall y, ip z y = (1 - t) * ip u y + t * ip (x i) y).
  { intros y; unfold z, u; rewrite !combination_dot.
    rewrite (sum_ext n _ (fun k => (1 - t) * (λ k * ip (x k) y) + is i k * (t * ip (x k) y))) by (intros; ring).
    rewrite sum_plus, sum_scale, (sum_is n i (fun k => t * ip (x k) y)) by assumption; reflexivity. }
  specialize (least _ (distribution_towards n λ t i hull i_lt ltac:(lra))); fold u in least; fold z in least.
  rewrite (moved z), (symmetric _ _ _ form u z), (symmetric _ _ _ form (x i) z), !moved in least.
  rewrite (symmetric _ _ _ form u (x i)) in least.
  assert (ip u u <= ip u u - 2 * t * δ + t * t * N) as shorter by (unfold δ, N; lra).
  assert (t * N < 2 * δ) by nra; nra.
Qed.

(** And nothing else has such slopes, so that they tell the shortest point. *)
Theorem shortest_point_iff (n : nat) (x : nat -> V) (λ : nat -> R) : let u := combination n λ x in
  (shortest n x λ <-> distribution n λ /\ forall i, (i < n)%nat -> ip u u <= ip (x i) u).
Proof.
  intros u; split.
  - intros is_shortest; split; [apply is_shortest |]; intros i i_lt; now apply shortest_point_gives_every_slope.
  - intros [hull slopes]; split; [assumption |]; intros μ μ_hull; fold u; set (z := combination n μ x).
    assert (ip u u <= ip z u) as along
      by (unfold z; rewrite combination_dot; now apply weighted_mean_at_least).
    pose proof (cauchy_schwarz _ _ _ _ form z u); pose proof (nonnegative _ _ _ form u);
      pose proof (nonnegative _ _ _ form z).
    destruct (Rle_lt_dec (ip u u) (ip z z)); [assumption | nra].
Qed.

(** It is the best direction of its length: the least slope of any other is no larger. *)
Theorem no_direction_does_better (n : nat) (x : nat -> V) (λ : nat -> R) (v : V) (m : R) : distribution n λ -> 0 <= m ->
  (forall i, (i < n)%nat -> m <= ip (x i) v) -> let u := combination n λ x in m * m <= ip u u * ip v v.
Proof.
  intros hull m_nonneg slopes u; pose proof (cauchy_schwarz _ _ _ _ form u v).
  assert (m <= ip u v) by (unfold u; rewrite combination_dot; now apply weighted_mean_at_least); nra.
Qed.

(** The converse direction: what raises all keeps the hull away from length 0. *)
Theorem direction_keeps_hull_from_zero (n : nat) (x : nat -> V) (v : V) (μ : nat -> R) :
  (forall i, (i < n)%nat -> 0 < ip (x i) v) -> distribution n μ ->
  0 < ip (combination n μ x) (combination n μ x).
Proof.
  intros slopes hull; set (z := combination n μ x).
  assert (0 < ip z v) by (unfold z; rewrite combination_dot; now apply weighted_mean_pos).
  pose proof (cauchy_schwarz _ _ _ _ form z v); pose proof (nonnegative _ _ _ form v).
  destruct (nonnegative _ _ _ form z) as [| zero]; [assumption | nra].
Qed.

(** *** It exists

    With a coordinate more, in which every x_i is 1 and the target is (0, 1), the closest combination with nonnegative
    weights has the direction of the hull's shortest point. *)

Let plus' (u v : V * R) : V * R := (plus (fst u) (fst v), snd u + snd v).
Let scale' (a : R) (v : V * R) : V * R := (scale a (fst v), a * snd v).
Let ip' (u v : V * R) : R := ip (fst u) (fst v) + snd u * snd v.

Lemma form_with_a_coordinate_more : semi_inner_product plus' scale' ip'.
Proof.
  unfold plus', scale', ip'; split; intros; simpl.
  - rewrite (symmetric _ _ _ form); ring.
  - rewrite (additive _ _ _ form); ring.
  - rewrite (homogeneous _ _ _ form); ring.
  - pose proof (nonnegative _ _ _ form (fst v)); nra.
Qed.

Theorem shortest_point_exists (n : nat) (x : nat -> V) : (0 < n)%nat -> exists λ, shortest n x λ.
Proof.
  intros n_pos.
  destruct (closest_exists form_with_a_coordinate_more n (fun i => (x i, 1)) (scale 0 (x 0%nat), 1)) as [μ μ_closest].
  set (σ := sum n μ); pose (s y := Σ_(k < n) μ k * ip (x k) y).
  assert (conditions : forall i, (i < n)%nat -> 0 <= μ i /\ 1 - σ <= s (x i) /\ μ i * s (x i) = (1 - σ) * μ i).
  { intros i i_lt; destruct (μ_closest i i_lt) as (nonneg & below & equal); unfold left_over, ip' in below, equal.
    simpl in below, equal; rewrite (symmetric _ _ _ form (x i)), (homogeneous _ _ _ form) in below, equal.
    rewrite (sum_ext n _ (fun k => μ k * ip (x k) (x i) + μ k)), sum_plus in below, equal by (intros; ring).
    fold (s (x i)) in below, equal; fold σ in below, equal; repeat split; lra. }
  assert (0 < σ) as σ_pos.
  { destruct (Rle_lt_dec σ 0) as [none | ]; [exfalso | assumption].
    assert (zero : forall k, (k < n)%nat -> μ k = 0).
    { intros k k_lt; pose proof (term_le_sum n μ k (fun i i_lt => proj1 (conditions i i_lt)) k_lt) as term.
      fold σ in term; pose proof (proj1 (conditions k k_lt)); lra. }
    destruct (conditions 0%nat n_pos) as (_ & below & _).
    unfold s in below; rewrite sum_zero in below by (intros; rewrite zero by assumption; ring).
    unfold σ in below; rewrite sum_zero in below by assumption; lra. }
  pose (λ k := / σ * μ k); assert (along : forall y, ip (combination n λ x) y = / σ * s y).
  { intros y; rewrite combination_dot; unfold s; rewrite <- sum_scale; apply sum_ext; intros; unfold λ; ring. }
  assert (0 < / σ) as inverse_pos by now apply Rinv_0_lt_compat.
  exists λ; apply shortest_point_iff; split; [split |].
  - intros i i_lt; destruct (conditions i i_lt) as [nonneg _]; unfold λ; nra.
  - unfold λ; rewrite sum_scale; fold σ; field; lra.
  - assert (square : ip (combination n λ x) (combination n λ x) = / σ * (1 - σ)).
    { rewrite combination_dot.
      rewrite (sum_ext n _ (fun i => / σ * (/ σ * ((1 - σ) * μ i)))).
      - rewrite !sum_scale; fold σ; field; lra.
      - intros i i_lt; destruct (conditions i i_lt) as (_ & _ & <-).
        rewrite (symmetric _ _ _ form), along; unfold λ; ring. }
    intros i i_lt; rewrite square, (symmetric _ _ _ form), along.
    destruct (conditions i i_lt) as (_ & below & _); apply Rmult_le_compat_l; lra.
Qed.

(** T24: Gordan's theorem, with what does the work: the hull's shortest point. *)
Theorem gordan (n : nat) (x : nat -> V) :
  (exists v, forall i, (i < n)%nat -> 0 < ip (x i) v)
  <-> (forall μ, distribution n μ -> 0 < ip (combination n μ x) (combination n μ x)).
Proof.
  split; [intros [v slopes] μ; now apply direction_keeps_hull_from_zero with v | intros away].
  destruct n as [|n]; [exists (x 0%nat); intros i i_lt; lia |].
  destruct (shortest_point_exists (S n) x) as [λ is_shortest]; [lia |].
  exists (combination (S n) λ x); intros i i_lt.
  apply Rlt_le_trans with (ip (combination (S n) λ x) (combination (S n) λ x));
    [apply away, is_shortest | now apply shortest_point_gives_every_slope].
Qed.

(** One of the two always holds, and then says which: where nothing serves all, the hull's shortest point is no step. *)
Corollary gordan_alternative (n : nat) (x : nat -> V) : (0 < n)%nat -> exists λ, shortest n x λ /\
  let u := combination n λ x in (ip u u = 0 \/ forall i, (i < n)%nat -> 0 < ip u u <= ip (x i) u).
Proof.
  intros n_pos; destruct (shortest_point_exists n x n_pos) as [λ is_shortest]; exists λ; split; [assumption |].
  destruct (nonnegative _ _ _ form (combination n λ x)) as [long | zero]; [right | left; now symmetry].
  intros i i_lt; split; [assumption | now apply shortest_point_gives_every_slope].
Qed.

(** ** Batches of pairs *)

Definition oriented (B : nat) (gw gl : nat -> V) : nat -> V := first_then B gw (fun b => scale (-1) (gl b)).

Definition common_direction (B : nat) (gw gl : nat -> V) (v : V) : Prop :=
  forall b, (b < B)%nat -> 0 < ip (gw b) v /\ ip (gl b) v < 0.

Lemma oriented_slopes (B : nat) (gw gl : nat -> V) (v : V) (m : R -> Prop) :
  (forall i, (i < B + B)%nat -> m (ip (oriented B gw gl i) v))
  <-> (forall b, (b < B)%nat -> m (ip (gw b) v) /\ m (- ip (gl b) v)).
Proof.
  assert (flipped : forall b, ip (scale (-1) (gl b)) v = - ip (gl b) v)
    by (intros; rewrite (homogeneous _ _ _ form); ring).
  unfold oriented, first_then; split.
  - intros all b b_lt; split.
    + specialize (all b ltac:(lia)); now rewrite (proj2 (Nat.ltb_lt b B)) in all.
    + specialize (all (B + b)%nat ltac:(lia)); rewrite (proj2 (Nat.ltb_ge (B + b) B)) in all by lia.
      replace (B + b - B)%nat with b in all by lia; now rewrite <- flipped.
  - intros all i i_lt; destruct (Nat.ltb_spec i B) as [first | second]; [now apply all |].
    rewrite flipped; apply all; lia.
Qed.

Theorem shortest_step_serves_every_pair (B : nat) (gw gl : nat -> V) (λ : nat -> R) :
  shortest (B + B) (oriented B gw gl) λ -> let u := combination (B + B) λ (oriented B gw gl) in
  forall b, (b < B)%nat -> ip u u <= ip (gw b) u /\ ip (gl b) u <= - ip u u.
Proof.
  intros is_shortest u b b_lt.
  destruct (proj1 (oriented_slopes B gw gl u (fun slope => ip u u <= slope))
              (fun i i_lt => shortest_point_gives_every_slope _ _ _ i is_shortest i_lt) b b_lt); lra.
Qed.

Theorem common_direction_exists_iff (B : nat) (gw gl : nat -> V) :
  (exists v, common_direction B gw gl v)
  <-> (forall μ, distribution (B + B) μ ->
        let z := combination (B + B) μ (oriented B gw gl) in 0 < ip z z).
Proof.
  cbv zeta; rewrite <- gordan; split; intros [v slopes]; exists v.
  - apply (proj2 (oriented_slopes B gw gl v (fun slope => 0 < slope))).
    intros b b_lt; destruct (slopes b b_lt); lra.
  - intros b b_lt; destruct (proj1 (oriented_slopes B gw gl v (fun slope => 0 < slope)) slopes b b_lt); lra.
Qed.

(** ** The price of one pair of slopes *)

Definition price (G : gram) (s t : R) : R :=
  (s * s * ll G + 2 * s * t * wl G + t * t * ww G) / (ww G * ll G - wl G * wl G).

Definition cheapest (gw gl : V) (s t : R) : V := let G := gram_of ip gw gl in let D := ww G * ll G - wl G * wl G in
  combined V plus scale ((s * ll G + t * wl G) / D) gw (- ((t * ww G + s * wl G) / D)) gl.

Theorem cheapest_step (gw gl : V) (s t : R) : let G := gram_of ip gw gl in let u := cheapest gw gl s t in
  wl G * wl G < ww G * ll G ->
  (ip gw u = s /\ ip gl u = - t /\ ip u u = price G s t) /\
  (forall v, ip gw v = s -> ip gl v = - t -> price G s t <= ip v v).
Proof.
  intros G u independent.
  assert (along : forall v, ip u v = (s * ll G + t * wl G) / (ww G * ll G - wl G * wl G) * ip gw v
                            - (t * ww G + s * wl G) / (ww G * ll G - wl G * wl G) * ip gl v)
    by (intros v; unfold u, cheapest; rewrite (ip_combine_left _ _ _ _ form); fold G; ring).
  assert (wl_symmetric : ip gl gw = wl G) by (rewrite (symmetric _ _ _ form); reflexivity).
  assert (chosen : ip gw u = s).
  { rewrite (symmetric _ _ _ form), along, wl_symmetric; change (ip gw gw) with (ww G); field; lra. }
  assert (rejected : ip gl u = - t).
  { rewrite (symmetric _ _ _ form), along; change (ip gl gl) with (ll G); change (ip gw gl) with (wl G); field; lra. }
  assert (length : ip u u = price G s t) by (rewrite along, chosen, rejected; unfold price; field; lra).
  repeat split; [assumption | assumption | assumption |]; intros v v_chosen v_rejected.
  assert (ip u v = ip u u) as same by (rewrite !along, chosen, rejected, v_chosen, v_rejected; ring).
  rewrite <- length; pose proof (cauchy_schwarz _ _ _ _ form u v) as bound; rewrite same in bound.
  pose proof (nonnegative _ _ _ form u); pose proof (nonnegative _ _ _ form v).
  destruct (Rle_lt_dec (ip u u) (ip v v)); [assumption | nra].
Qed.

End Hull.

Arguments common_direction {V}.

(** ** Both occur in the plane *)

(** The mean step raises the first pair's rejected response, (1, 3) serves both pairs. *)
Example a_common_direction_where_the_mean_step_fails :
  let gw b := match b with 0%nat => (1, 0) | _ => (3, 1) end in
  let gl b := match b with 0%nat => (2, -1) | _ => (0, -1) end in
  0 < plane_ip (gl 0%nat) (mean_step plane_plus plane_scale 2 (fun _ => 1) (fun _ => 1) gw gl)
  /\ common_direction plane_ip 2 gw gl (1, 3).
Proof.
  intros gw gl; split; [| intros [|[|b]] b_lt; unfold plane_ip; simpl; lra || lia].
  unfold mean_step, step_of_pair, combined, plane_ip; simpl; replace (/ (1 + 1)) with (1 / 2) by field; lra.
Qed.

(** The two pairs of Groups.v, of which the mean step reverses one: no step serves both, as the chosen of the second
    points against the chosen of the first. *)
Example no_common_direction :
  let gw b := match b with 0%nat => (1, 0) | _ => (-3, 0) end in
  let gl b := match b with 0%nat => (0, 1) | _ => (0, -3) end in
  ~ exists v, common_direction plane_ip 2 gw gl v.
Proof.
  intros gw gl [v slopes]; destruct (slopes 0%nat ltac:(lia)) as [up _], (slopes 1%nat ltac:(lia)) as [up' _].
  unfold plane_ip in *; simpl in *; lra.
Qed.
