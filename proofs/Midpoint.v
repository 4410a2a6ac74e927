(** * How far a slope carries, from the start of a step and from its middle

    What is stated.

      T13  For any log-probability f along a step whose second derivative is at most M in size, f(η) - f(0) - η f'(0) is
           at most M η² / 2 in size: a bound that halving the step quarters.  With a third derivative of size at most M,
           four times that error at half the step differs from it by at most M η³ / 12.
      T23  In linear softmax, with the slope from the middle of each step, the account of a run errs by at most
           Σ_t Σ_i r_ti³ / (144 √3), where r_ti is max - min of what step t adds to the logits at position i.

    Scope.  Real arithmetic.  T13 asks of a model only that its log-probability along the step has these derivatives.

    Name                      Meaning
    third_moment V p u        Σ_v p_v (u_v - ⟨p, u⟩)³
    moment V z u k s          Σ_v p_v u_v^k, p = softmax (z + s u)
    skew d D r                Σ_i (max v_i - min v_i)³ / (144 √3), v_i what D adds to the logits at position i
    middle_order V d W r D T  Σ_(t < T) of the slopes along D_t at W_t + D_t / 2 *)

From Coq Require Import Reals Lra Psatz Lia Arith FunctionalExtensionality.
From Toymodel Require Import Sums Condition Softmax Slopes FiniteStep Account.
Local Open Scope R_scope.

(** ** What derivatives leave room for *)

(** A function that starts at 0 stays below one that grows at least as fast. *)
Lemma slower_growth (f f' g g' : R -> R) (h x : R) : f 0 = 0 -> g 0 = 0 -> 0 <= x <= h ->
  (forall t, 0 <= t <= h -> derivable_pt_lim f t (f' t)) -> (forall t, 0 <= t <= h -> derivable_pt_lim g t (g' t)) ->
  (forall t, 0 <= t <= h -> Rabs (f' t) <= g' t) -> Rabs (f x) <= g x.
Proof.
  intros f_start g_start [[x_pos | <-] x_le] f_derivative g_derivative slower; [| rewrite f_start, Rabs_R0; lra].
  assert (between : forall c, 0 <= c <= x -> 0 <= c <= h) by (intros; lra).
  destruct (MVT_cor2 (fun t => g t - f t) (fun t => g' t - f' t) 0 x x_pos) as (c & c_is & c_between).
  { intros t t_between; apply (derivable_pt_lim_minus g f); auto. }
  destruct (MVT_cor2 (fun t => g t + f t) (fun t => g' t + f' t) 0 x x_pos) as (e & e_is & e_between).
  { intros t t_between; apply (derivable_pt_lim_plus g f); auto. }
  pose proof (slower c ltac:(lra)) as at_c; pose proof (slower e ltac:(lra)) as at_e; cbv beta in c_is, e_is.
  pose proof (Rle_abs (f' c)); pose proof (Rle_abs (- f' e)) as below; rewrite Rabs_Ropp in below.
  apply Rabs_le; nra.
Qed.

Lemma along_a_line (f f' : R -> R) (a b t : R) : derivable_pt_lim f (a + t * b) (f' (a + t * b)) ->
  derivable_pt_lim (fun s => f (a + s * b)) t (f' (a + t * b) * b).
Proof.
  intros derivative; apply (derivable_pt_lim_comp (fun s => a + s * b) f); [apply affine_derivative | assumption].
Qed.

Lemma power_derivative (a t : R) (n : nat) : derivable_pt_lim (fun s => a * s ^ S n) t (a * (INR (S n) * t ^ n)).
Proof. apply (derivable_pt_lim_scal (fun s => s ^ S n)); exact (derivable_pt_lim_pow t (S n)). Qed.

Lemma change_derivative (f : R -> R) (f' c t : R) : derivable_pt_lim f t f' ->
  derivable_pt_lim (fun s => f s - c) t f'.
Proof.
  intros derivative; rewrite <- (Rminus_0_r f').
  apply (derivable_pt_lim_minus f (fct_cte c)); [assumption | apply derivable_pt_lim_const].
Qed.

Lemma error_derivative (f : R -> R) (f' a b t : R) : derivable_pt_lim f t f' ->
  derivable_pt_lim (fun s => f s - (a + s * b)) t (f' - b).
Proof. intros derivative; apply (derivable_pt_lim_minus f); [assumption | apply affine_derivative]. Qed.

Section Carry.
Variables (f f' f'' : R -> R) (η M : R).
Hypothesis η_nonneg : 0 <= η.
Hypothesis first : forall t, 0 <= t <= η -> derivable_pt_lim f t (f' t).
Hypothesis second : forall t, 0 <= t <= η -> derivable_pt_lim f' t (f'' t).

Lemma slope_changes_little (t : R) : (forall s, 0 <= s <= η -> Rabs (f'' s) <= M) -> 0 <= t <= η ->
  Rabs (f' t - f' 0) <= M * t ^ 1.
Proof.
  intros bound t_between.
  apply (slower_growth (fun s => f' s - f' 0) f'' (fun s => M * s ^ 1) (fun _ => M) η);
    [lra | ring | assumption | | | assumption].
  - intros s s_between; apply change_derivative; auto.
  - intros s _; pose proof (power_derivative M s 0) as power; simpl INR in power.
    now replace (M * (1 * s ^ 0)) with M in power by ring.
Qed.

(** T13: Taylor's theorem along the step. *)
Theorem slope_times_step_error : (forall t, 0 <= t <= η -> Rabs (f'' t) <= M) ->
  Rabs (f η - f 0 - η * f' 0) <= M * η ^ 2 / 2.
Proof.
  intros bound; replace (f η - f 0 - η * f' 0) with (f η - (f 0 + η * f' 0)) by ring.
  replace (M * η ^ 2 / 2) with (M / 2 * η ^ 2) by field.
  apply (slower_growth (fun s => f s - (f 0 + s * f' 0)) (fun s => f' s - f' 0) (fun s => M / 2 * s ^ 2)
           (fun s => M * s ^ 1) η); [ring | ring | lra | | | now intros; apply slope_changes_little].
  - intros s s_between; apply error_derivative; auto.
  - intros s _; pose proof (power_derivative (M / 2) s 1) as power; simpl INR in power.
    now replace (M / 2 * ((1 + 1) * s ^ 1)) with (M * s ^ 1) in power by field.
Qed.

End Carry.

Section CarryFurther.
Variables (f f' f'' f''' : R -> R) (η M : R).
Hypothesis η_nonneg : 0 <= η.
Hypothesis first : forall t, 0 <= t <= η -> derivable_pt_lim f t (f' t).
Hypothesis second : forall t, 0 <= t <= η -> derivable_pt_lim f' t (f'' t).
Hypothesis third : forall t, 0 <= t <= η -> derivable_pt_lim f'' t (f''' t).
Hypothesis bound : forall t, 0 <= t <= η -> Rabs (f''' t) <= M.

Let error (t : R) : R := f t - f 0 - t * f' 0.

Lemma second_derivative_changes_little (t : R) : 0 <= t <= η -> Rabs (f'' t - f'' (t / 2)) <= M / 2 * t.
Proof.
  intros t_between; assert (forall s, 0 <= s <= t / 2 -> 0 <= t / 2 + s * 1 <= η) as inside by (intros; lra).
  replace (f'' t) with (f'' (t / 2 + t / 2 * 1)) by (f_equal; field).
  replace (M / 2 * t) with (M * (t / 2) ^ 1) by field.
  apply (slower_growth (fun s => f'' (t / 2 + s * 1) - f'' (t / 2)) (fun s => f''' (t / 2 + s * 1) * 1)
           (fun s => M * s ^ 1) (fun _ => M) (t / 2)); [| ring | lra | | |].
  - replace (t / 2 + 0 * 1) with (t / 2) by ring; ring.
  - intros s s_between; apply change_derivative, (along_a_line f'' f'''); auto.
  - intros s _; pose proof (power_derivative M s 0) as power; simpl INR in power.
    now replace (M * (1 * s ^ 0)) with M in power by ring.
  - intros s s_between; rewrite Rmult_1_r; auto.
Qed.

(** T13: halving the step quarters the error, but for a term of third order. *)
Theorem halved_step_quarters_the_error : Rabs (error η - 4 * error (η / 2)) <= M * η ^ 3 / 12.
Proof.
  assert (half : forall t, 0 <= t <= η -> 0 <= 0 + t * / 2 <= η) by (intros; lra).
  assert (at_half : forall g t, g (t / 2) = g (0 + t * / 2) :> R) by (intros; f_equal; field).
  replace (M * η ^ 3 / 12) with (M / 12 * η ^ 3) by field.
  apply (slower_growth (fun t => error t - 4 * error (t / 2)) (fun t => f' t - 2 * f' (t / 2) - (f' 0 - 2 * f' 0))
           (fun t => M / 12 * t ^ 3) (fun t => M / 4 * t ^ 2) η); [| ring | lra | | |].
  - unfold error; replace (0 / 2) with 0 by field; ring.
  - intros t t_between.
    apply (derivable_pt_lim_ext (fun t => f t - 4 * f (0 + t * / 2) - (f 0 - 4 * f 0 + t * (f' 0 - 2 * f' 0)))).
    + intros s; unfold error; rewrite (at_half f); field.
    + apply error_derivative; rewrite (at_half f').
      replace (2 * f' (0 + t * / 2)) with (4 * (f' (0 + t * / 2) * / 2)) by field.
      apply (derivable_pt_lim_minus f (fun s => 4 * f (0 + s * / 2))); [auto |].
      apply (derivable_pt_lim_scal (fun s => f (0 + s * / 2))), (along_a_line f f'); auto.
  - intros t _; pose proof (power_derivative (M / 12) t 2) as power; simpl INR in power.
    now replace (M / 12 * ((1 + 1 + 1) * t ^ 2)) with (M / 4 * t ^ 2) in power by field.
  - intros t t_between; apply (slower_growth (fun t => f' t - 2 * f' (t / 2) - (f' 0 - 2 * f' 0))
      (fun t => f'' t - f'' (t / 2)) (fun t => M / 4 * t ^ 2) (fun t => M / 2 * t) η); [| ring | assumption | | |].
    + replace (0 / 2) with 0 by field; ring.
    + intros s s_between; apply change_derivative; rewrite (at_half f'').
      apply (derivable_pt_lim_ext (fun s => f' s - 2 * f' (0 + s * / 2))); [intros x; now rewrite (at_half f') |].
      replace (f'' (0 + s * / 2)) with (2 * (f'' (0 + s * / 2) * / 2)) by field.
      apply (derivable_pt_lim_minus f' (fun x => 2 * f' (0 + x * / 2))); [auto |].
      apply (derivable_pt_lim_scal (fun x => f' (0 + x * / 2))), (along_a_line f' f''); auto.
    + intros s _; pose proof (power_derivative (M / 4) s 1) as power; simpl INR in power.
      now replace (M / 4 * ((1 + 1) * s ^ 1)) with (M / 2 * s) in power by field.
    + intros s s_between; now apply second_derivative_changes_little.
Qed.

End CarryFurther.

(** T13 for a model: f is any of its log-probabilities, u the step's direction, and ⟨g, u⟩ its slope (T9). *)
Corollary slope_carries {E : Type} plus scale (ip : E -> E -> R) (f : E -> R) (θ g u : E) (h' h'' : R -> R) (η M : R) :
  let h t := f (plus θ (scale t u)) in
  gradient_at plus scale ip f θ g -> 0 <= η ->
  (forall t, 0 <= t <= η -> derivable_pt_lim h t (h' t)) -> (forall t, 0 <= t <= η -> derivable_pt_lim h' t (h'' t)) ->
  (forall t, 0 <= t <= η -> Rabs (h'' t) <= M) ->
  Rabs (h η - h 0 - η * ip g u) <= M * η ^ 2 / 2.
Proof.
  intros h gradient η_nonneg first second bound.
  replace (ip g u) with (h' 0) by (apply (uniqueness_limite h 0); [apply first; lra | apply gradient]).
  now apply (slope_times_step_error h h' h'').
Qed.

(** ** From the middle of a step *)

Lemma mirrored (f f' : R -> R) (c t : R) : (forall x, derivable_pt_lim f x (f' x)) ->
  derivable_pt_lim (fun s => f (c + s * -1)) t (- f' (c + t * -1)).
Proof.
  intros derivative; replace (- f' (c + t * -1)) with (f' (c + t * -1) * -1) by ring; now apply along_a_line.
Qed.

Lemma forwards (f f' : R -> R) (c t : R) : (forall x, derivable_pt_lim f x (f' x)) ->
  derivable_pt_lim (fun s => f (c + s * 1)) t (f' (c + t * 1)).
Proof.
  intros derivative; rewrite <- (Rmult_1_r (f' (c + t * 1))); now apply along_a_line.
Qed.

Theorem middle_slope_error (f f' f'' f''' : R -> R) (M : R) :
  (forall t, derivable_pt_lim f t (f' t)) -> (forall t, derivable_pt_lim f' t (f'' t)) ->
  (forall t, derivable_pt_lim f'' t (f''' t)) -> (forall t, 0 <= t <= 1 -> Rabs (f''' t) <= M) ->
  Rabs (f 1 - f 0 - f' (1 / 2)) <= M / 24.
Proof.
  intros first second third bound; set (c := 1 / 2).
  assert (last : forall t, 0 <= t <= c -> Rabs (f'' (c + t * 1) - f'' (c + t * -1)) <= 2 * M * t ^ 1).
  { intros t t_between.
    apply (slower_growth (fun s => f'' (c + s * 1) - f'' (c + s * -1)) (fun s => f''' (c + s * 1) - - f''' (c + s * -1))
             (fun s => 2 * M * s ^ 1) (fun _ => 2 * M) c); [| ring | assumption | | |].
    - replace (c + 0 * 1) with (c + 0 * -1) by ring; ring.
    - intros s _; apply (derivable_pt_lim_minus (fun s => f'' (c + s * 1))); [now apply forwards | now apply mirrored].
    - intros s _; pose proof (power_derivative (2 * M) s 0) as power; simpl INR in power.
      now replace (2 * M * (1 * s ^ 0)) with (2 * M) in power by ring.
    - intros s s_between; eapply Rle_trans; [apply Rabs_triang |]; rewrite !Rabs_Ropp.
      pose proof (bound (c + s * 1) ltac:(unfold c in *; lra)).
      pose proof (bound (c + s * -1) ltac:(unfold c in *; lra)); lra. }
  assert (next : forall t, 0 <= t <= c -> Rabs (f' (c + t * 1) - - f' (c + t * -1) - 2 * f' c) <= M * t ^ 2).
  { intros t t_between.
    apply (slower_growth (fun s => f' (c + s * 1) - - f' (c + s * -1) - 2 * f' c)
             (fun s => f'' (c + s * 1) - f'' (c + s * -1)) (fun s => M * s ^ 2) (fun s => 2 * M * s ^ 1) c);
      [| ring | assumption | | | assumption].
    - replace (c + 0 * 1) with c by ring; replace (c + 0 * -1) with c by ring; ring.
    - intros s _; apply change_derivative.
      replace (f'' (c + s * -1)) with (- - f'' (c + s * -1)) by ring.
      apply (derivable_pt_lim_minus (fun s => f' (c + s * 1)) (fun s => - f' (c + s * -1))); [now apply forwards |].
      now apply (derivable_pt_lim_opp (fun s => f' (c + s * -1))), mirrored.
    - intros s _; pose proof (power_derivative M s 1) as power; simpl INR in power.
      now replace (M * ((1 + 1) * s ^ 1)) with (2 * M * s ^ 1) in power by ring. }
  replace (f 1 - f 0 - f' c) with (f (c + c * 1) - f (c + c * -1) - (0 + c * (2 * f' c)))
    by (unfold c; replace (1 / 2 + 1 / 2 * 1) with 1 by field; replace (1 / 2 + 1 / 2 * -1) with 0 by field; field).
  replace (M / 24) with (M / 3 * c ^ 3) by (unfold c; field).
  apply (slower_growth (fun s => f (c + s * 1) - f (c + s * -1) - (0 + s * (2 * f' c)))
           (fun s => f' (c + s * 1) - - f' (c + s * -1) - 2 * f' c) (fun s => M / 3 * s ^ 3) (fun s => M * s ^ 2) c);
    [| ring | unfold c; lra | | | assumption].
  - replace (c + 0 * 1) with (c + 0 * -1) by ring; ring.
  - intros s _; apply error_derivative.
    apply (derivable_pt_lim_minus (fun s => f (c + s * 1))); [now apply forwards | now apply mirrored].
  - intros s _; pose proof (power_derivative (M / 3) s 2) as power; simpl INR in power.
    now replace (M / 3 * ((1 + 1 + 1) * s ^ 2)) with (M * s ^ 2) in power by field.
Qed.

(** ** The third central moment of a bounded quantity *)

Definition third_moment (V : nat) (p u : nat -> R) : R := Σ_(v < V) p v * (u v - dot V p u) ^ 3.

Lemma mean_cube_below (V : nat) (p y : nat -> R) (α β : R) : distribution V p -> dot V p y = 0 ->
  (forall v, (v < V)%nat -> y v ^ 3 <= α + β * y v) -> Σ_(v < V) p v * y v ^ 3 <= α.
Proof.
  intros [nonneg total] centred below; replace α with (α + β * dot V p y) by (rewrite centred; ring).
  rewrite <- mean_affine by assumption; apply sum_le; intros v v_lt; apply Rmult_le_compat_l; auto.
Qed.

(** Of all quantities between two ends, two values with probabilities (1 ± 1/√3)/2 have the largest. *)
Lemma mean_cube_bound (V : nat) (p y : nat -> R) (c d : R) : distribution V p -> dot V p y = 0 -> 0 <= c -> 0 <= d ->
  (forall v, (v < V)%nat -> - c <= y v <= d) -> 6 * sqrt 3 * (Σ_(v < V) p v * y v ^ 3) <= (c + d) ^ 3.
Proof.
  intros p_distribution centred c_nonneg d_nonneg between.
  pose proof (sqrt_lt_R0 3 ltac:(lra)) as s_pos; pose proof (sqrt_sqrt 3 ltac:(lra)) as s_square.
  set (s := sqrt 3) in *; assert (s <= 2) as s_small by nra.
  destruct (Rle_dec d (2 * c)) as [near | far].
  - assert (Σ_(v < V) p v * y v ^ 3 <= d ^ 3 / 4) as below.
    { apply mean_cube_below with (β := 3 / 4 * (d * d)); auto; intros v v_lt; destruct (between v v_lt).
      assert (0 <= (d - y v) * ((y v + d / 2) * (y v + d / 2))) by (apply Rmult_le_pos; [lra | apply Rle_0_sqr]); nra. }
    apply Rle_trans with (6 * s * (d ^ 3 / 4)); [apply Rmult_le_compat_l; lra |].
    assert (3 / 2 * d <= c + d) as wide by lra.
    assert ((3 / 2 * d) ^ 3 <= (c + d) ^ 3) by (apply pow_incr; lra).
    assert (0 <= d ^ 3) by (apply pow_le; lra); simpl in *; nra.
  - apply Rnot_le_lt in far.
    assert (Σ_(v < V) p v * y v ^ 3 <= c * d * (d - c)) as below.
    { apply mean_cube_below with (β := c * c - c * d + d * d); auto; intros v v_lt; destruct (between v v_lt).
      assert (0 <= (d - y v) * (y v + c) * (y v + (d - c))) by (repeat apply Rmult_le_pos; lra); nra. }
    apply Rle_trans with (6 * s * (c * d * (d - c))); [apply Rmult_le_compat_l; lra |].
    assert (0 <= (s * (d - c) - (c + d)) * (s * (d - c) - (c + d)) * (s * (d - c) + 2 * (c + d))) as square
      by (apply Rmult_le_pos; [apply Rle_0_sqr | nra]).
    replace ((s * (d - c) - (c + d)) * (s * (d - c) - (c + d)) * (s * (d - c) + 2 * (c + d)))
      with (s * (s * s) * (d - c) ^ 3 - 3 * (s * s) * ((d - c) ^ 2 * (c + d)) * 0 - 3 * s * ((d - c) * (c + d) ^ 2)
            + 2 * (c + d) ^ 3) in square by ring.
    rewrite s_square in square; apply Rmult_le_reg_l with 2; [lra |].
    replace (2 * (6 * s * (c * d * (d - c)))) with (3 * s * ((d - c) * (c + d) ^ 2) - s * 3 * (d - c) ^ 3) by ring; lra.
Qed.

Theorem third_moment_bound (V : nat) (p u : nat -> R) (lo hi : R) : distribution V p ->
  (forall v, (v < V)%nat -> lo <= u v <= hi) -> Rabs (third_moment V p u) <= (hi - lo) ^ 3 / (6 * sqrt 3).
Proof.
  intros p_distribution between; pose proof p_distribution as [nonneg total].
  pose proof (sqrt_lt_R0 3 ltac:(lra)) as s_pos.
  set (m := dot V p u); assert (lo <= m <= hi) as [above below].
  { split; [rewrite <- (Rmult_1_r lo), <- total | rewrite <- (Rmult_1_r hi), <- total]; rewrite <- sum_scale;
      apply sum_le; intros v v_lt; rewrite (Rmult_comm _ (p v)); apply Rmult_le_compat_l; try apply between; auto. }
  assert (centred : forall a, dot V p (fun v => a * (u v - m)) = 0).
  { intros a; unfold dot; rewrite (sum_ext V _ (fun v => p v * (- a * m + a * u v))) by (intros; ring).
    rewrite mean_affine by assumption; fold m; ring. }
  pose proof (mean_cube_bound V p (fun v => 1 * (u v - m)) (m - lo) (hi - m) p_distribution (centred 1)
    ltac:(lra) ltac:(lra) ltac:(intros v v_lt; destruct (between v v_lt); lra)) as upper.
  pose proof (mean_cube_bound V p (fun v => -1 * (u v - m)) (hi - m) (m - lo) p_distribution (centred (-1))
    ltac:(lra) ltac:(lra) ltac:(intros v v_lt; destruct (between v v_lt); lra)) as lower.
  rewrite (sum_ext V _ (fun v => p v * (u v - m) ^ 3)) in upper by (intros; ring).
  rewrite (sum_ext V _ (fun v => -1 * (p v * (u v - m) ^ 3))), sum_scale in lower by (intros; ring).
  replace (m - lo + (hi - m)) with (hi - lo) in upper by ring.
  replace (hi - m + (m - lo)) with (hi - lo) in lower by ring.
  fold m in upper, lower; unfold third_moment; fold m; set (κ := Σ_(v < V) p v * (u v - m) ^ 3) in *.
  apply (Rmult_le_reg_l (6 * sqrt 3)); [lra |].
  replace (6 * sqrt 3 * ((hi - lo) ^ 3 / (6 * sqrt 3))) with ((hi - lo) ^ 3) by (field; lra).
  destruct (Rcase_abs κ); [rewrite Rabs_left by assumption | rewrite Rabs_right by assumption]; lra.
Qed.

(** ** One softmax along a line of logits *)

Section Softmax.
Variables (V : nat) (z u : nat -> R) (y : nat).
Hypothesis y_lt : (y < V)%nat.

Let line (s : R) (v : nat) : R := z v + s * u v.

Definition moment (k : nat) (s : R) : R := dot V (softmax V (line s)) (fun v => u v ^ k).

Lemma probability_derivative (v : nat) (t : R) : (v < V)%nat ->
  derivable_pt_lim (fun s => softmax V (line s) v) t (softmax V (line t) v * (u v - dot V (softmax V (line t)) u)).
Proof.
  intros v_lt; apply (derivable_pt_lim_ext (fun s => exp (logp V (line s) v))); [intros s; apply exp_logp; lia |].
  rewrite <- exp_logp, <- residual_dot_vector by (assumption || lia); rewrite Rmult_comm.
  rewrite (Rmult_comm (dot V _ _)).
  apply (derivable_pt_lim_comp (fun s => logp V (line s) v) exp); [| apply derivable_pt_lim_exp].
  apply logp_derivative; [assumption | intros w _; apply affine_derivative].
Qed.

Lemma first_moment (s : R) : dot V (softmax V (line s)) u = moment 1 s.
Proof. apply sum_ext; intros; simpl; ring. Qed.

Lemma moment_derivative (k : nat) (t : R) :
  derivable_pt_lim (moment k) t (moment (S k) t - moment 1 t * moment k t).
Proof.
  replace (moment (S k) t - moment 1 t * moment k t)
    with (Σ_(v < V) softmax V (line t) v * (u v - dot V (softmax V (line t)) u) * u v ^ k).
  - apply (derivative_of_sum V (fun v s => softmax V (line s) v * u v ^ k)); intros v v_lt.
    replace (softmax V (line t) v * (u v - dot V (softmax V (line t)) u) * u v ^ k)
      with (softmax V (line t) v * (u v - dot V (softmax V (line t)) u) * u v ^ k + softmax V (line t) v * 0) by ring.
    apply (derivable_pt_lim_mult (fun s => softmax V (line s) v) (fct_cte (u v ^ k)));
      [now apply probability_derivative | apply derivable_pt_lim_const].
  - rewrite first_moment; unfold moment, dot; rewrite <- sum_scale, <- sum_minus.
    apply sum_ext; intros v _; simpl; ring.
Qed.

Lemma third_moment_from_moments (s : R) : third_moment V (softmax V (line s)) u
  = moment 3 s - 3 * moment 1 s * moment 2 s + 2 * moment 1 s * (moment 1 s * moment 1 s).
Proof.
  unfold third_moment; rewrite first_moment; set (m := moment 1 s); set (p := softmax V (line s)).
  rewrite (sum_ext V _ (fun v => p v * u v ^ 3 - 3 * m * (p v * u v ^ 2)
    + (3 * m * m * (p v * u v ^ 1) - m * m * m * p v))) by (intros; simpl; ring).
  rewrite sum_plus, !sum_minus, !sum_scale; unfold p; rewrite softmax_sum by lia.
  fold p; change (Σ_(v < V) p v * u v ^ 3) with (moment 3 s); change (Σ_(v < V) p v * u v ^ 2) with (moment 2 s).
  change (Σ_(v < V) p v * u v ^ 1) with m; ring.
Qed.

Theorem logp_change_from_the_middle :
  Rabs (logp V (line 1) y - logp V (line 0) y - dot V (residual V (line (1 / 2)) y) u)
  <= range V u ^ 3 / (144 * sqrt 3).
Proof.
  pose proof (sqrt_lt_R0 3 ltac:(lra)) as s_pos.
  replace (range V u ^ 3 / (144 * sqrt 3)) with (range V u ^ 3 / (6 * sqrt 3) / 24) by (field; lra).
  apply (middle_slope_error (fun s => logp V (line s) y) (fun s => dot V (residual V (line s) y) u)
           (fun s => 0 - (moment 2 s - moment 1 s * moment 1 s))
           (fun s => - third_moment V (softmax V (line s)) u)).
  - intros t; apply logp_derivative; [assumption | intros v _; apply affine_derivative].
  - intros t; apply (derivable_pt_lim_ext (fun s => u y - moment 1 s)).
    + intros s; now rewrite residual_dot_vector, first_moment by assumption.
    + apply (derivable_pt_lim_minus (fct_cte (u y)) (moment 1));
        [apply derivable_pt_lim_const | apply moment_derivative].
  - intros t; rewrite third_moment_from_moments.
    replace (- (moment 3 t - 3 * moment 1 t * moment 2 t + 2 * moment 1 t * (moment 1 t * moment 1 t)))
      with (0 - (moment 3 t - moment 1 t * moment 2 t - ((moment 2 t - moment 1 t * moment 1 t) * moment 1 t
        + moment 1 t * (moment 2 t - moment 1 t * moment 1 t)))) by ring.
    apply (derivable_pt_lim_minus (fct_cte 0)); [apply derivable_pt_lim_const |].
    apply (derivable_pt_lim_minus (moment 2)); [apply moment_derivative |].
    apply (derivable_pt_lim_mult (moment 1) (moment 1)); apply moment_derivative.
  - intros t _; rewrite Rabs_Ropp; unfold range; apply third_moment_bound; [apply softmax_is_a_distribution; lia |].
    intros v v_lt; split; [now apply smallest_bound | now apply largest_bound].
Qed.

End Softmax.

(** ** A run *)

Section Run.
Variables (V d : nat) (W : nat -> nat -> R) (D : nat -> nat -> nat -> R) (r : response).
Hypothesis r_in : in_vocabulary V r.

Definition skew (D0 : nat -> nat -> R) : R :=
  Σ_(i < size r) range V (logit_change d D0 r i) ^ 3 / (144 * sqrt 3).

Lemma change_from_the_middle (W0 D0 : nat -> nat -> R) :
  Rabs (logprob V d (stepped W0 D0 1) r - logprob V d W0 r - slope V d (stepped W0 D0 (1 / 2)) r D0) <= skew D0.
Proof.
  unfold slope; rewrite gradient_dot; unfold logprob, response_logp; rewrite <- !sum_minus; unfold skew.
  set (f i := logp V (logits d (stepped W0 D0 1) r i) (token r i) - logp V (logits d W0 r i) (token r i)
    - dot V (residuals V d (stepped W0 D0 (1 / 2)) r i) (logit_change d D0 r i)).
  assert (each : forall i, (i < size r)%nat -> Rabs (f i) <= range V (logit_change d D0 r i) ^ 3 / (144 * sqrt 3)).
  { intros i i_lt; unfold f, residuals.
    assert (along : forall t, logits d (stepped W0 D0 t) r i = fun v => logits d W0 r i v + t * logit_change d D0 r i v)
      by (intros; extensionality v; apply logits_along).
    rewrite !along; pose proof (logp_change_from_the_middle V (logits d W0 r i) (logit_change d D0 r i) (token r i)
      (r_in i i_lt)) as bound; cbv beta in bound.
    replace (fun v => logits d W0 r i v + 0 * logit_change d D0 r i v) with (logits d W0 r i) in bound
      by (extensionality v; ring).
    exact bound. }
  change (Rabs (sum (size r) f) <= Σ_(i < size r) range V (logit_change d D0 r i) ^ 3 / (144 * sqrt 3)).
  clearbody f; revert each; generalize (size r) as n; induction n as [|n IH]; intros each;
    [simpl; rewrite Rabs_R0; lra |].
  simpl; eapply Rle_trans; [apply Rabs_triang |].
  apply Rplus_le_compat; [apply IH; intros i i_lt |]; apply each; lia.
Qed.

Definition middle_order (T : nat) : R :=
  Σ_(t < T) slope V d (stepped (trajectory W D t) (D t) (1 / 2)) r (D t).

(** T23, from the middle of every step. *)
Theorem remainder_from_the_middle (T : nat) :
  Rabs (true_change V d W D r T - middle_order T) <= Σ_(t < T) skew (D t).
Proof.
  unfold true_change, middle_order; induction T as [|T IH].
  - simpl; replace (logprob V d W r - logprob V d W r - 0) with 0 by ring; rewrite Rabs_R0; lra.
  - pose proof (change_from_the_middle (trajectory W D T) (D T)) as last; simpl in *.
    set (now := logprob V d (trajectory W D T) r) in *.
    set (next := logprob V d (stepped (trajectory W D T) (D T) 1) r) in *.
    set (step := slope V d (stepped (trajectory W D T) (D T) (1 / 2)) r (D T)) in *.
    set (before := Σ_(t < T) slope V d (stepped (trajectory W D t) (D t) (1 / 2)) r (D t)) in *.
    replace (next - logprob V d W r - (before + step))
      with ((now - logprob V d W r - before) + (next - now - step)) by ring.
    eapply Rle_trans; [apply Rabs_triang |]; lra.
Qed.

End Run.
