(** * What a finite step descends

    What is stated.  T26.  Gradient descent with step size h follows the flow of L + (h/4)‖∇L‖² more closely than that
    of L, and the split step, which takes the two parts of L = L⁺ + L⁻ one after the other in the order of a fair coin,
    that of L + (h/4)(‖g⁺‖² + ‖g⁻‖²): the two differ by (h/2)⟨g⁺, g⁻⟩, entanglement itself.

      Quadratic parts with any symmetric matrices: the mean of the two orders is exactly one step of gradient descent on
        L - (h/2)⟨g⁺, g⁻⟩.
      Quadratic L, along an eigen-direction of curvature k, after n steps, T = n h, with h k ≤ 1: the distance to the
        modified flow is at most T k³ h² / 3; that to the plain flow is between T k² exp(-2kT) h / 4 (where h k ≤ 1/2)
        and T k² h / 2, times the distance from the minimum.  So the orders are 2 and 1, and the 1 is sharp.
      Quadratic parts with a common eigen-direction, curvatures k⁺, k⁻ ≥ 0, minima anywhere: the expectation of n split
        steps over all coins is within (5/4) T (k⁺ + k⁻)³ h² of its modified flow.

    Scope.  Convex quadratic losses written in their eigenbasis, except for the first of these three; real arithmetic.
    For other losses the orders are measured.  Flows are whatever solves the equation, which here one path does.

    Name                        Meaning
    quadratic d k c x           Σ_(i < d) k_i (x_i - c_i)² / 2
    spring k c x                its gradient k_i (x_i - c_i)
    modified_loss d h L g x     L + (h/4)‖g‖²
    stiffer h k                 k_i + (h/2) k_i²: the curvatures of a modified quadratic
    descent h g x n             n steps of size h against g, from x
    follows d g X x             X 0 = x, and X moves against g at every time t ≥ 0
    split_step h g g' x         a step against g, then one against g' where that leads
    expected h g g' n x         the mean of n split steps over the 2^n orders of n fair coins *)

From Coq Require Import Reals Lra Psatz Lia FunctionalExtensionality.
From Toymodel Require Import Sums Condition Softmax Slopes Flow.
Local Open Scope R_scope.

(** ** exp against the steps of gradient descent *)

Lemma square_derivative (x : R) : derivable_pt_lim (fun t => t * t) x (2 * x).
Proof.
  apply (derivative_ext (fun t => t * t) _ x (1 * x + x * 1)); [reflexivity | ring |].
  apply (product_derivative (fun t => t) (fun t => t)); apply derivable_pt_lim_id.
Qed.

Lemma cube_derivative (x : R) : derivable_pt_lim (fun t => t * (t * t)) x (3 * (x * x)).
Proof.
  apply (derivative_ext (fun t => t * (t * t)) _ x (1 * (x * x) + x * (2 * x))); [reflexivity | ring |].
  apply (product_derivative (fun t => t) (fun t => t * t)); [apply derivable_pt_lim_id | apply square_derivative].
Qed.

Lemma modified_decay (z : R) : 0 <= z -> 0 <= exp (- z - z * z / 2) - (1 - z) <= z * z * z / 3.
Proof.
  assert (slope : forall a b x, derivable_pt_lim (fun t => a * (exp (- t - t * t / 2) - (1 - t)) + b * (t * (t * t)))
    x (a * (1 - (1 + x) * exp (- x - x * x / 2)) + b * (3 * (x * x)))).
  { intros a b x; apply sum_of_two_derivative; apply scaled_derivative.
    - apply (derivative_ext (fun t => exp (-1 * t + - / 2 * (t * t)) + (-1 + 1 * t)) _ x
               (exp (-1 * x + - / 2 * (x * x)) * (-1 * 1 + - / 2 * (2 * x)) + 1)).
      + intros s; replace (-1 * s + - / 2 * (s * s)) with (- s - s * s / 2) by field; ring.
      + replace (-1 * x + - / 2 * (x * x)) with (- x - x * x / 2) by field; field.
      + apply sum_of_two_derivative; [| apply line_derivative].
        apply (exp_derivative (fun t => -1 * t + - / 2 * (t * t))), sum_of_two_derivative; apply scaled_derivative;
          [apply derivable_pt_lim_id | apply square_derivative].
    - apply cube_derivative. }
  intros z_nonneg; assert (below : forall x, 0 <= x -> 1 - x <= exp (- x - x * x / 2)).
  { intros y y_nonneg; enough (0 <= 1 * (exp (- y - y * y / 2) - (1 - y)) + 0 * (y * (y * y))) by lra.
    apply (nonneg_from_slope (fun t => 1 * (exp (- t - t * t / 2) - (1 - t)) + 0 * (t * (t * t))) _ y) in slope; auto.
    - replace (- 0 - 0 * 0 / 2) with 0 by field; rewrite exp_0; ring.
    - intros x [x_nonneg _]; pose proof (exp_ineq1_le (x + x * x / 2)) as large.
      assert (exp (x + x * x / 2) * exp (- x - x * x / 2) = 1) as inverse
        by (rewrite <- exp_plus, <- exp_0; f_equal; field).
      pose proof (exp_pos (- x - x * x / 2)); nra. }
  split; [specialize (below z z_nonneg); lra |].
  enough (0 <= -1 * (exp (- z - z * z / 2) - (1 - z)) + 1/3 * (z * (z * z))) by lra.
  apply (nonneg_from_slope (fun t => -1 * (exp (- t - t * t / 2) - (1 - t)) + 1/3 * (t * (t * t)))
    (fun x => -1 * (1 - (1 + x) * exp (- x - x * x / 2)) + 1/3 * (3 * (x * x))) z).
  - replace (- 0 - 0 * 0 / 2) with 0 by field; rewrite exp_0; ring.
  - assumption.
  - intros x; apply slope.
  - intros x [x_nonneg _]; specialize (below x x_nonneg); nra.
Qed.

Lemma plain_decay_slope (a b x : R) :
  derivable_pt_lim (fun t => a * (exp (- t) - (1 - t)) + b * (t * t)) x (a * (1 - exp (- x)) + b * (2 * x)).
Proof.
  apply sum_of_two_derivative; apply scaled_derivative.
  - apply (derivative_ext (fun t => exp (0 + -1 * t) + (-1 + 1 * t)) _ x (exp (0 + -1 * x) * -1 + 1)).
    + intros s; replace (0 + -1 * s) with (- s) by ring; ring.
    + replace (0 + -1 * x) with (- x) by ring; ring.
    + apply sum_of_two_derivative; [apply (exp_derivative (fun t => 0 + -1 * t)) |]; apply line_derivative.
  - apply square_derivative.
Qed.

Lemma plain_decay_above (z : R) : 0 <= z -> exp (- z) - (1 - z) <= z * z / 2.
Proof.
  intros z_nonneg; enough (0 <= -1 * (exp (- z) - (1 - z)) + 1/2 * (z * z)) by lra.
  refine (nonneg_from_slope _ _ z _ z_nonneg (plain_decay_slope (-1) (1/2)) _); [rewrite Ropp_0, exp_0; ring |].
  intros x _; pose proof (exp_ineq1_le (- x)); lra.
Qed.

Lemma exp_inverse (x : R) : exp x * exp (- x) = 1.
Proof. rewrite <- exp_plus, <- exp_0; f_equal; ring. Qed.

Lemma plain_decay_below (z : R) : 0 <= z <= 1 -> z * z / 4 <= exp (- z) - (1 - z).
Proof.
  intros [z_nonneg z_le]; enough (0 <= 1 * (exp (- z) - (1 - z)) + -1/4 * (z * z)) by lra.
  refine (nonneg_from_slope _ _ z _ z_nonneg (plain_decay_slope 1 (-1/4)) _); [rewrite Ropp_0, exp_0; field |].
  intros x [x_nonneg x_le]; pose proof (exp_ineq1_le x); pose proof (exp_inverse x); pose proof (exp_pos (- x)).
  assert (exp (- x) * (1 + x) <= 1) by nra; assert (1 <= (1 - x / 2) * (1 + x)) by nra; nra.
Qed.

(** 1 - e^-w = w - w²/2 + …, to third order. *)
Lemma third_order_of_exp (w : R) : 0 <= w -> 0 <= 1 - exp (- w) - w + w * w / 2 <= w * w * w / 6.
Proof.
  assert (slope : forall a b x, derivable_pt_lim (fun t => a * (1 - exp (- t) - t + t * t / 2) + b * (t * (t * t)))
    x (a * (exp (- x) - (1 - x)) + b * (3 * (x * x)))).
  { intros a b x; apply sum_of_two_derivative; apply scaled_derivative.
    - apply (derivative_ext (fun t => -1 * exp (0 + -1 * t) + ((1 + -1 * t) + / 2 * (t * t))) _ x
               (-1 * (exp (0 + -1 * x) * -1) + (-1 + / 2 * (2 * x)))).
      + intros s; replace (0 + -1 * s) with (- s) by ring; field.
      + replace (0 + -1 * x) with (- x) by ring; field.
      + apply sum_of_two_derivative;
          [apply scaled_derivative, (exp_derivative (fun t => 0 + -1 * t)), line_derivative |].
        apply sum_of_two_derivative; [apply line_derivative | apply scaled_derivative, square_derivative].
    - apply cube_derivative. }
  intros w_nonneg; split.
  - enough (0 <= 1 * (1 - exp (- w) - w + w * w / 2) + 0 * (w * (w * w))) by lra.
    refine (nonneg_from_slope _ _ w _ w_nonneg (slope 1 0) _); [rewrite Ropp_0, exp_0; field |].
    intros x _; pose proof (exp_ineq1_le (- x)); lra.
  - enough (0 <= -1 * (1 - exp (- w) - w + w * w / 2) + 1/6 * (w * (w * w))) by lra.
    refine (nonneg_from_slope _ _ w _ w_nonneg (slope (-1) (1/6)) _); [rewrite Ropp_0, exp_0; field |].
    intros x [x_nonneg _]; pose proof (plain_decay_above x x_nonneg); lra.
Qed.

Lemma exp_power (x : R) (n : nat) : exp x ^ n = exp (INR n * x).
Proof.
  induction n as [|n IH]; [simpl; now rewrite Rmult_0_l, exp_0 |].
  rewrite S_INR; simpl; rewrite IH, <- exp_plus; f_equal; ring.
Qed.

Lemma power_between (A : R) (n : nat) : 0 <= A <= 1 -> 0 <= A ^ n <= 1.
Proof. intros range; induction n as [|n IH]; simpl; [lra | nra]. Qed.

Lemma power_gap (A B : R) (n : nat) : 0 <= A -> A <= B -> B <= 1 ->
  INR n * A ^ n * (B - A) <= B ^ n - A ^ n <= INR n * (B - A).
Proof.
  intros A_nonneg order B_le; induction n as [|n IH]; [simpl; lra | rewrite S_INR; simpl].
  pose proof (power_between A n ltac:(lra)); pose proof (pos_INR n).
  replace (B * B ^ n - A * A ^ n) with (B * (B ^ n - A ^ n) + A ^ n * (B - A)) by ring.
  assert (0 <= INR n * A ^ n * (B - A)) by (apply Rmult_le_pos; [apply Rmult_le_pos |]; lra).
  split.
  - apply Rle_trans with (A * (INR n * A ^ n * (B - A)) + A * (A ^ n * (B - A))); [right; ring |].
    assert (0 <= A ^ n * (B - A)) by (apply Rmult_le_pos; lra).
    apply Rplus_le_compat; [apply Rmult_le_compat; lra | nra].
  - assert (A ^ n * (B - A) <= B - A) by nra; nra.
Qed.

(** What moves towards c at a rate proportional to its distance. *)
Lemma decay_is_exponential (y : R -> R) (k c : R) :
  (forall t, 0 <= t -> derivable_pt_lim y t (- (k * (y t - c)))) ->
  forall t, 0 <= t -> y t = c + exp (- (k * t)) * (y 0 - c).
Proof.
  intros equation t t_nonneg.
  pose proof (still_if_slope_is_zero (fun s => exp (0 + k * s) * (y s + - c))) as still; cbv beta in still.
  assert (constant : exp (0 + k * t) * (y t + - c) = exp (0 + k * 0) * (y 0 + - c)).
  { apply still; [| assumption]; intros s s_nonneg.
    apply (derivative_ext (fun s => exp (0 + k * s) * (y s + - c)) _ s
             (exp (0 + k * s) * k * (y s + - c) + exp (0 + k * s) * (- (k * (y s - c)) + 0)));
      [reflexivity | ring |].
    apply (product_derivative (fun s => exp (0 + k * s)) (fun s => y s + - c)).
    - apply (exp_derivative (fun s => 0 + k * s)), line_derivative.
    - apply sum_of_two_derivative; [now apply equation | apply derivable_pt_lim_const]. }
  rewrite Rmult_0_r, Rplus_0_r, exp_0, !Rplus_0_l in constant.
  pose proof (exp_inverse (k * t)) as inverse.
  replace (y 0 - c) with (exp (k * t) * (y t + - c)) by lra.
  replace (exp (- (k * t)) * (exp (k * t) * (y t + - c))) with (exp (k * t) * exp (- (k * t)) * (y t - c)) by ring.
  rewrite inverse; ring.
Qed.

(** ** Losses, steps, flows *)

Definition quadratic (d : nat) (k c x : nat -> R) : R := Σ_(i < d) k i * ((x i - c i) * (x i - c i)) / 2.
Definition spring (k c x : nat -> R) (i : nat) : R := k i * (x i - c i).

Definition modified_loss (d : nat) (h : R) (L : (nat -> R) -> R) (g : (nat -> R) -> nat -> R) (x : nat -> R) : R :=
  L x + h / 4 * dot d (g x) (g x).

Definition stiffer (h : R) (k : nat -> R) (i : nat) : R := k i + h / 2 * (k i * k i).

Fixpoint descent (h : R) (g : (nat -> R) -> nat -> R) (x : nat -> R) (n : nat) : nat -> R :=
  match n with
  | O => x
  | S n' => let y := descent h g x n' in fun i => y i - h * g y i
  end.

Definition follows (d : nat) (g : (nat -> R) -> nat -> R) (X : R -> nat -> R) (x : nat -> R) : Prop :=
  (forall i, (i < d)%nat -> X 0 i = x i) /\
  forall t i, 0 <= t -> (i < d)%nat -> derivable_pt_lim (fun s => X s i) t (- g (X t) i).

Lemma parabola_slope (f : R -> R) (a b c : R) : (forall t, f t = a + t * b + t * t * c) -> derivable_pt_lim f 0 b.
Proof.
  intros parabola; apply (derivative_ext (fun t => (a + b * t) + c * (t * t)) _ 0 (b + c * (2 * 0))).
  - intros s; rewrite parabola; ring.
  - ring.
  - apply sum_of_two_derivative; [apply line_derivative | apply scaled_derivative, square_derivative].
Qed.

Theorem quadratic_gradient (d : nat) (k c x : nat -> R) :
  gradient_at vector_plus vector_scale (dot d) (quadratic d k c) x (spring k c x).
Proof.
  intros δ; apply (parabola_slope _ (quadratic d k c x) _ (Σ_(i < d) k i * (δ i * δ i) / 2)); intros t.
  unfold quadratic, dot; rewrite <- !sum_scale, <- !sum_plus; apply sum_ext; intros i _.
  unfold vector_plus, vector_scale, spring; field.
Qed.

(** A modified quadratic is a quadratic: so its gradient is [spring (stiffer h k) c]. *)
Theorem modified_quadratic (d : nat) (h : R) (k c x : nat -> R) :
  modified_loss d h (quadratic d k c) (spring k c) x = quadratic d (stiffer h k) c x.
Proof.
  unfold modified_loss, quadratic, dot, spring, stiffer; rewrite <- sum_scale, <- sum_plus.
  apply sum_ext; intros; field.
Qed.

Lemma descent_on_quadratic (h : R) (k c x : nat -> R) (n i : nat) :
  descent h (spring k c) x n i = c i + (1 - h * k i) ^ n * (x i - c i).
Proof.
  induction n as [|n IH]; [simpl; ring |]; set (y := descent h (spring k c) x n) in IH.
  change (y i - h * (k i * (y i - c i)) = c i + (1 - h * k i) ^ S n * (x i - c i)); rewrite IH; simpl; ring.
Qed.

Lemma flow_on_quadratic (d : nat) (k c x : nat -> R) (X : R -> nat -> R) (t : R) (i : nat) :
  follows d (spring k c) X x -> 0 <= t -> (i < d)%nat -> X t i = c i + exp (- (k i * t)) * (x i - c i).
Proof.
  intros [start equation] t_nonneg i_lt; rewrite <- (start i i_lt).
  apply (decay_is_exponential (fun s => X s i)); [| assumption]; intros s s_nonneg; now apply equation.
Qed.

Theorem quadratic_has_a_flow (d : nat) (k c x : nat -> R) :
  follows d (spring k c) (fun t i => c i + exp (- (k i * t)) * (x i - c i)) x.
Proof.
  split; [intros i _; rewrite Rmult_0_r, Ropp_0, exp_0; ring |]; intros t i _ _; unfold spring.
  apply (derivative_ext (fun s => c i + (x i - c i) * exp (0 + - k i * s)) _ t
           (0 + (x i - c i) * (exp (0 + - k i * t) * - k i))).
  - intros s; replace (0 + - k i * s) with (- (k i * s)) by ring; ring.
  - replace (0 + - k i * t) with (- (k i * t)) by ring; ring.
  - apply sum_of_two_derivative; [apply derivable_pt_lim_const |].
    apply scaled_derivative, (exp_derivative (fun s => 0 + - k i * s)), line_derivative.
Qed.

(** ** Gradient descent: second order to the modified flow, first order to the plain one *)

Section Descent.
Variables (d : nat) (h : R) (k c x : nat -> R) (X : R -> nat -> R) (n i : nat).
Hypotheses (i_lt : (i < d)%nat) (h_nonneg : 0 <= h) (k_nonneg : 0 <= k i) (stable : h * k i <= 1).

Let T : R := INR n * h.
Let error : R := Rabs (descent h (spring k c) x n i - X T i).
Let z : R := h * k i.

Lemma z_range : 0 <= z <= 1.
Proof. unfold z; split; [now apply Rmult_le_pos | assumption]. Qed.

Lemma T_nonneg : 0 <= T.
Proof. unfold T; apply Rmult_le_pos; [apply pos_INR | assumption]. Qed.

Lemma error_of_rate (B : R) : X T i = c i + B ^ n * (x i - c i) -> 1 - z <= B ->
  error = (B ^ n - (1 - z) ^ n) * Rabs (x i - c i).
Proof.
  intros path order; pose proof z_range; unfold error; rewrite path, descent_on_quadratic; fold z.
  assert (0 <= B ^ n - (1 - z) ^ n) as gap by (pose proof (pow_incr (1 - z) B n); lra).
  replace (_ - _) with (- ((B ^ n - (1 - z) ^ n) * (x i - c i))) by ring.
  now rewrite Rabs_Ropp, Rabs_mult, (Rabs_right (_ - _)) by lra.
Qed.

Theorem descent_follows_the_modified_flow : follows d (spring (stiffer h k) c) X x ->
  error <= T * (k i * k i * k i) * (h * h) / 3 * Rabs (x i - c i).
Proof.
  intros flow; pose proof z_range as range; pose proof (modified_decay z (proj1 range)).
  assert (exp (- z - z * z / 2) <= 1) as at_most_one.
  { rewrite <- exp_0; apply exp_monotone; nra. }
  rewrite (error_of_rate (exp (- z - z * z / 2))); [| | lra].
  - apply Rmult_le_compat_r; [apply Rabs_pos |].
    pose proof (power_gap (1 - z) (exp (- z - z * z / 2)) n); pose proof (pos_INR n).
    apply Rle_trans with (INR n * (z * z * z / 3)); [nra | right; unfold T, z; field].
  - rewrite (flow_on_quadratic d (stiffer h k) c x X T i flow T_nonneg i_lt), exp_power.
    do 3 f_equal; unfold T, z, stiffer; field.
Qed.

Theorem descent_strays_from_the_plain_flow : follows d (spring k c) X x ->
  error <= T * (k i * k i) * h / 2 * Rabs (x i - c i) /\
  (h * k i <= 1/2 -> T * (k i * k i) * h / 4 * exp (- (2 * k i * T)) * Rabs (x i - c i) <= error).
Proof.
  intros flow; pose proof z_range as range; pose proof (plain_decay_above z (proj1 range)).
  pose proof (plain_decay_below z range); assert (exp (- z) <= 1) as at_most_one.
  { rewrite <- exp_0; apply exp_monotone; lra. }
  assert (0 <= z * z) by nra; pose proof (pos_INR n).
  destruct (power_gap (1 - z) (exp (- z)) n) as [below above]; try lra.
  rewrite (error_of_rate (exp (- z))); [| | lra].
  - split; [| intros small]; (apply Rmult_le_compat_r; [apply Rabs_pos |]).
    + apply Rle_trans with (INR n * (z * z / 2)); [nra | right; unfold T, z; field].
    + apply Rle_trans with (INR n * (1 - z) ^ n * (z * z / 4)).
      * replace (T * (k i * k i) * h / 4 * exp (- (2 * k i * T))) with (INR n * exp (- (2 * z)) ^ n * (z * z / 4))
          by (rewrite exp_power; replace (INR n * - (2 * z)) with (- (2 * k i * T)) by (unfold T, z; ring);
              unfold T, z; field).
        apply Rmult_le_compat_r; [lra |]; apply Rmult_le_compat_l; [assumption |].
        apply pow_incr; split; [apply Rlt_le, exp_pos |]; fold z in small.
        pose proof (exp_ineq1_le (2 * z)); pose proof (exp_inverse (2 * z)); pose proof (exp_pos (- (2 * z))).
        assert (exp (- (2 * z)) * (1 + 2 * z) <= 1) by nra; assert (1 <= (1 - z) * (1 + 2 * z)) by nra; nra.
      * apply Rle_trans with (INR n * (1 - z) ^ n * (exp (- z) - (1 - z))); [| exact below].
        apply Rmult_le_compat_l; [| assumption].
        apply Rmult_le_pos; [assumption | apply pow_le; lra].
  - rewrite (flow_on_quadratic d k c x X T i flow T_nonneg i_lt), exp_power.
    do 3 f_equal; unfold T, z; ring.
Qed.

End Descent.

(** ** Two parts, one after the other *)

Definition split_step (h : R) (g g' : (nat -> R) -> nat -> R) (x : nat -> R) : nat -> R :=
  let y i := x i - h * g x i in fun i => y i - h * g' y i.

(** The two modified losses differ by (h/2)⟨g⁺, g⁻⟩, in any space. *)
Theorem modified_losses_differ_by_the_inner_product {E : Type} plus scale (ip : E -> E -> R) (g g' : E) (h : R) :
  semi_inner_product plus scale ip -> let both := combined E plus scale 1 g 1 g' in
  h / 4 * ip both both - h / 4 * (ip g g + ip g' g') = h / 2 * ip g g'.
Proof.
  intros form both; unfold both.
  rewrite (ip_combine_left E plus scale ip form), !(ip_combine_right E plus scale ip form), (symmetric _ _ _ form g' g).
  field.
Qed.

(** *** Quadratics with any symmetric matrices: exact *)

Definition affine (d : nat) (H : nat -> nat -> R) (b x : nat -> R) (i : nat) : R := dot d (H i) x - b i.

Definition symmetric_matrix (d : nat) (H : nat -> nat -> R) : Prop :=
  forall i j, (i < d)%nat -> (j < d)%nat -> H i j = H j i.

Definition general_quadratic (d : nat) (H : nat -> nat -> R) (b x : nat -> R) : R :=
  dot d x (fun i => dot d (H i) x) / 2 - dot d b x.

Lemma affine_along (d : nat) (H : nat -> nat -> R) (b x δ : nat -> R) (t : R) (i : nat) :
  affine d H b (vector_plus x (vector_scale t δ)) i = affine d H b x i + t * dot d (H i) δ.
Proof.
  unfold affine; rewrite (dot_symmetric d _ (vector_plus _ _)); unfold vector_plus, vector_scale.
  rewrite dot_plus_left, dot_scale_left, !(dot_symmetric d _ (H i)); ring.
Qed.

Lemma matrix_across (d : nat) (H : nat -> nat -> R) (u v : nat -> R) : symmetric_matrix d H ->
  dot d u (fun i => dot d (H i) v) = dot d (fun i => dot d (H i) u) v.
Proof.
  intros same; unfold dot.
  transitivity (Σ_(i < d) Σ_(j < d) u i * (H i j * v j)); [apply sum_ext; intros; symmetry; apply sum_scale |].
  rewrite sum_swap; apply sum_ext; intros j j_lt; rewrite Rmult_comm, <- sum_scale; apply sum_ext; intros i i_lt.
  rewrite (same i j) by assumption; ring.
Qed.

Theorem general_quadratic_gradient (d : nat) (H : nat -> nat -> R) (b x : nat -> R) : symmetric_matrix d H ->
  gradient_at vector_plus vector_scale (dot d) (general_quadratic d H b) x (affine d H b x).
Proof.
  intros same δ; pose proof (matrix_across d H x δ same) as across.
  apply (parabola_slope _ (general_quadratic d H b x) _ (dot d δ (fun i => dot d (H i) δ) / 2)); intros t.
  assert (image : forall i, dot d (H i) (vector_plus x (vector_scale t δ)) = dot d (H i) x + t * dot d (H i) δ)
    by (intros i; pose proof (affine_along d H (fun _ => 0) x δ t i) as along; unfold affine in along; lra).
  unfold general_quadratic.
  replace (fun i => dot d (H i) (vector_plus x (vector_scale t δ))) with (fun i => dot d (H i) x + t * dot d (H i) δ)
    by (extensionality i; now rewrite image).
  unfold affine; rewrite dot_minus_left, <- across.
  rewrite (dot_symmetric d b (vector_plus _ _)); unfold vector_plus, vector_scale.
  rewrite !dot_plus_left, !dot_scale_left, (dot_symmetric d δ b), (dot_symmetric d x b).
  rewrite !(dot_symmetric d _ (fun i => _ + _)), !dot_plus_left, !dot_scale_left.
  rewrite !(dot_symmetric d (fun i => dot d (H i) x)), !(dot_symmetric d (fun i => dot d (H i) δ)).
  rewrite (dot_symmetric d δ (fun i => dot d (H i) x)), <- across; field.
Qed.

Section Split.
Variables (d : nat) (H H' : nat -> nat -> R) (b b' : nat -> R) (h : R).
Hypotheses (H_symmetric : symmetric_matrix d H) (H'_symmetric : symmetric_matrix d H').

Let g := affine d H b.
Let g' := affine d H' b'.

(** The gradient of L⁺ + L⁻ - (h/2)⟨g⁺, g⁻⟩. *)
Definition entangled_gradient (x : nat -> R) (i : nat) : R :=
  g x i + g' x i - h / 2 * (dot d (H i) (g' x) + dot d (H' i) (g x)).

Theorem entangled_gradient_is_the_gradient (x : nat -> R) :
  gradient_at vector_plus vector_scale (dot d)
    (fun x => general_quadratic d H b x + general_quadratic d H' b' x + - h / 2 * dot d (g x) (g' x)) x
    (entangled_gradient x).
Proof.
  intros δ; apply (derivative_ext (fun t => let y := vector_plus x (vector_scale t δ) in
    (general_quadratic d H b y + general_quadratic d H' b' y) + - h / 2 * dot d (g y) (g' y)) _ 0
    ((dot d (g x) δ + dot d (g' x) δ)
     + - h / 2 * (dot d (fun i => dot d (H i) δ) (g' x) + dot d (g x) (fun i => dot d (H' i) δ)))); [reflexivity | |].
  - rewrite (matrix_across d H' (g x)), <- (matrix_across d H δ) by assumption.
    unfold entangled_gradient; rewrite dot_minus_left, dot_plus_left, dot_scale_left, dot_plus_left.
    rewrite (dot_symmetric d δ); field.
  - apply sum_of_two_derivative; [apply sum_of_two_derivative; now apply general_quadratic_gradient |].
    apply scaled_derivative.
    apply (parabola_slope _ (dot d (g x) (g' x)) _ (dot d (fun i => dot d (H i) δ) (fun i => dot d (H' i) δ))).
    intros t; unfold dot at 1; rewrite (sum_ext d _ (fun i => g x i * g' x i
      + t * (dot d (H i) δ * g' x i + g x i * dot d (H' i) δ) + t * t * (dot d (H i) δ * dot d (H' i) δ))).
    + rewrite !sum_plus, !sum_scale, sum_plus; reflexivity.
    + intros i _; unfold g, g'; rewrite !affine_along; ring.
Qed.

(** T26: the mean of the two orders is one step of gradient descent on that loss. *)
Theorem mean_split_step_is_a_step (x : nat -> R) (i : nat) :
  (split_step h g g' x i + split_step h g' g x i) / 2 = x i - h * entangled_gradient x i.
Proof.
  assert (moved : forall H b g x, affine d H b (fun k => x k - h * g k) i = affine d H b x i - h * dot d (H i) g).
  { intros M c u y; rewrite <- Rplus_0_r at 1.
    pose proof (affine_along d M c y u (- h) i) as along; unfold vector_plus, vector_scale in along.
    replace (fun k => y k - h * u k) with (fun k => y k + - h * u k) by (extensionality k; ring); lra. }
  unfold split_step, entangled_gradient; cbv zeta; unfold g at 3, g' at 1; rewrite !moved; fold g g'.
  unfold g, g'; field.
Qed.

End Split.

(** *** A common eigen-direction: second order to the modified flow of the split step *)

Fixpoint expected (h : R) (g g' : (nat -> R) -> nat -> R) (n : nat) (x : nat -> R) (i : nat) : R :=
  match n with
  | O => x i
  | S n' => (expected h g g' n' (split_step h g g' x) i + expected h g g' n' (split_step h g' g x) i) / 2
  end.

(** L + (h/4)(‖g⁺‖² + ‖g⁻‖²) for quadratic parts, and its gradient. *)
Definition split_loss (d : nat) (h : R) (k c k' c' x : nat -> R) : R :=
  quadratic d k c x + quadratic d k' c' x
  + h / 4 * (dot d (spring k c x) (spring k c x) + dot d (spring k' c' x) (spring k' c' x)).

Definition split_gradient (h : R) (k c k' c' x : nat -> R) (i : nat) : R :=
  spring (stiffer h k) c x i + spring (stiffer h k') c' x i.

Theorem split_gradient_is_the_gradient (d : nat) (h : R) (k c k' c' x : nat -> R) :
  gradient_at vector_plus vector_scale (dot d) (split_loss d h k c k' c') x (split_gradient h k c k' c' x).
Proof.
  intros δ; apply (derivative_ext (fun t => quadratic d (stiffer h k) c (vector_plus x (vector_scale t δ))
    + quadratic d (stiffer h k') c' (vector_plus x (vector_scale t δ))) _ 0
    (dot d (spring (stiffer h k) c x) δ + dot d (spring (stiffer h k') c' x) δ)).
  - intros t; rewrite <- !modified_quadratic; unfold split_loss, modified_loss; ring.
  - unfold split_gradient; now rewrite dot_plus_left.
  - apply sum_of_two_derivative; apply quadratic_gradient.
Qed.

Section OneDirection.
Variables (h k k' c c' : R).
Hypotheses (h_nonneg : 0 <= h) (k_nonneg : 0 <= k) (k'_nonneg : 0 <= k') (stable : h * (k + k') <= 1).

Let a : R := k + h / 2 * (k * k).
Let a' : R := k' + h / 2 * (k' * k').
Let K : R := a + a'.
Let C : R := (a * c + a' * c') / K.
Let z : R := h * (k + k').

(** One split step along this direction, and the mean of the two orders. *)
Definition one_order (k c k' c' y : R) : R := let u := y - h * (k * (y - c)) in u - h * (k' * (u - c')).
Definition mean_order (y : R) : R := (one_order k c k' c' y + one_order k' c' k c y) / 2.

Let advance (y : R) : R := C + exp (- (K * h)) * (y - C).

Lemma stiff_nonneg : 0 <= a /\ 0 <= a' /\ 0 <= K.
Proof. assert (0 <= a /\ 0 <= a') by (unfold a, a'; split; nra); unfold K; lra. Qed.

Lemma pull_to_centre (y : R) : a * (y - c) + a' * (y - c') = K * (y - C).
Proof.
  destruct stiff_nonneg as (? & ? & ?), (Req_dec K 0) as [zero | nonzero].
  - rewrite zero; unfold K in zero; replace a with 0 by lra; replace a' with 0 by lra; ring.
  - unfold C; field_simplify_eq; [unfold K; ring | assumption].
Qed.

Lemma local_error (y : R) :
  Rabs (mean_order y - advance y) <= 5/4 * (z * z) * (h * (k * Rabs (y - c) + k' * Rabs (y - c'))).
Proof.
  set (p := h * k * (y - c)); set (p' := h * k' * (y - c')); set (u := h * k); set (u' := h * k').
  set (w := K * h); set (Y := y - C); set (ρ := 1 - exp (- w) - w + w * w / 2).
  destruct stiff_nonneg as (_ & _ & K_nonneg); assert (w_nonneg : 0 <= w) by now apply Rmult_le_pos.
  destruct (third_order_of_exp w w_nonneg) as [ρ_nonneg ρ_le]; fold ρ in ρ_nonneg, ρ_le.
  assert (u_nonneg : 0 <= u) by now apply Rmult_le_pos.
  assert (u'_nonneg : 0 <= u') by now apply Rmult_le_pos.
  assert (z_is : z = u + u') by (unfold z, u, u'; ring); assert (z_le : u + u' <= 1) by (rewrite <- z_is; exact stable).
  assert (w_is : w = u + u' + (u * u + u' * u') / 2) by (unfold w, K, a, a', u, u'; field).
  assert (pulled : w * Y = p * (1 + u / 2) + p' * (1 + u' / 2)).
  { unfold w, Y; replace (K * h * (y - C)) with (h * (K * (y - C))) by ring; rewrite <- pull_to_centre.
    unfold a, a', p, p', u, u'; field. }
  set (q := - (1/4) * ((u + u') * u + (u * u + u' * u') * (1 + u / 2))).
  set (q' := - (1/4) * ((u + u') * u' + (u * u + u' * u') * (1 + u' / 2))).
  assert (split : mean_order y - advance y = q * p + q' * p' + ρ * Y).
  { assert (mean_order y - y = - (p + p') + (u' * p + u * p') / 2) as step
      by (unfold mean_order, one_order, p, p', u, u'; field).
    replace (mean_order y - advance y) with ((mean_order y - y) + (1 - w / 2) * (w * Y) + ρ * Y)
      by (unfold advance, ρ, Y; fold w; field).
    rewrite step, pulled; unfold q, q'; rewrite w_is; field. }
  assert (q_small : Rabs q <= 5/8 * (z * z)).
  { rewrite z_is; unfold q; apply Rabs_le; assert (u * u + u' * u' <= (u + u') * (u + u')) by nra.
    assert (0 <= (u * u + u' * u') * (1 + u / 2) <= (u + u') * (u + u') * (3/2)) by (split; nra); split; nra. }
  assert (q'_small : Rabs q' <= 5/8 * (z * z)).
  { rewrite z_is; unfold q'; apply Rabs_le; assert (u * u + u' * u' <= (u + u') * (u + u')) by nra.
    assert (0 <= (u * u + u' * u') * (1 + u' / 2) <= (u + u') * (u + u') * (3/2)) by (split; nra); split; nra. }
  assert (last : Rabs (ρ * Y) <= 9/16 * (z * z) * (Rabs p + Rabs p')).
  { rewrite Rabs_mult, (Rabs_right ρ) by lra.
    apply Rle_trans with (w * w / 6 * Rabs (w * Y)).
    - rewrite Rabs_mult, (Rabs_right w) by lra.
      replace (w * w / 6 * (w * Rabs Y)) with (w * w * w / 6 * Rabs Y) by field.
      apply Rmult_le_compat_r; [apply Rabs_pos | assumption].
    - assert (Rabs (w * Y) <= 3/2 * (Rabs p + Rabs p')).
      { rewrite pulled; apply (Rle_trans _ _ _ (Rabs_triang _ _)); rewrite !Rabs_mult.
        rewrite (Rabs_right (1 + u / 2)), (Rabs_right (1 + u' / 2)) by lra.
        pose proof (Rabs_pos p); pose proof (Rabs_pos p'); nra. }
      assert (w <= 3/2 * (u + u')) as w_le by (rewrite w_is; nra).
      assert (w * w <= 9/4 * (z * z)) by (rewrite z_is; nra).
      replace (9/16 * (z * z) * (Rabs p + Rabs p')) with (9/4 * (z * z) / 6 * (3/2 * (Rabs p + Rabs p'))) by field.
      apply Rmult_le_compat; [nra | apply Rabs_pos | lra | assumption]. }
  assert (masses : h * (k * Rabs (y - c) + k' * Rabs (y - c')) = Rabs p + Rabs p').
  { unfold p, p'; rewrite !Rabs_mult, (Rabs_right h), (Rabs_right k), (Rabs_right k') by lra; ring. }
  rewrite split, masses; apply (Rle_trans _ _ _ (Rabs_triang _ _)).
  pose proof (Rabs_triang (q * p) (q' * p')) as two; rewrite !Rabs_mult in two.
  pose proof (Rmult_le_compat_r _ _ _ (Rabs_pos p) q_small).
  pose proof (Rmult_le_compat_r _ _ _ (Rabs_pos p') q'_small).
  assert (0 <= z * z) by nra; pose proof (Rabs_pos p); pose proof (Rabs_pos p'); nra.
Qed.

Lemma mean_order_contracts (u v : R) : Rabs (mean_order u - mean_order v) <= Rabs (u - v).
Proof.
  replace (mean_order u - mean_order v) with ((1 - h * k) * (1 - h * k') * (u - v))
    by (unfold mean_order, one_order; field).
  assert (0 <= h * k /\ 0 <= h * k') as [? ?] by (split; now apply Rmult_le_pos).
  assert (h * k + h * k' <= 1) by lra.
  rewrite Rabs_mult, (Rabs_right (_ * _)) by (apply Rle_ge, Rmult_le_pos; lra).
  rewrite <- (Rmult_1_l (Rabs (u - v))) at 2; apply Rmult_le_compat_r; [apply Rabs_pos | nra].
Qed.

(** *** Along a path of the modified flow *)

Variable y : R -> R.
Hypothesis equation : forall t, 0 <= t -> derivable_pt_lim y t (- (a * (y t - c) + a' * (y t - c'))).

Let reach : R := Rabs (y 0 - c) + Rabs (y 0 - c').

Lemma path (t : R) : 0 <= t -> y t = C + exp (- (K * t)) * (y 0 - C).
Proof.
  apply (decay_is_exponential y K C); intros s s_nonneg; rewrite <- pull_to_centre; now apply equation.
Qed.

Lemma path_stays_near (t : R) : 0 <= t -> Rabs (y t - c) <= reach /\ Rabs (y t - c') <= reach.
Proof.
  intros t_nonneg; rewrite (path t t_nonneg); destruct stiff_nonneg as (a_nonneg & a'_nonneg & K_nonneg).
  set (E := exp (- (K * t))).
  assert (0 < E <= 1) as [E_pos E_le].
  { split; [apply exp_pos | unfold E; rewrite <- exp_0; apply exp_monotone; nra]. }
  assert (pulled : (1 - E) * Rabs (C - c) <= (1 - E) * reach /\ (1 - E) * Rabs (C - c') <= (1 - E) * reach).
  { destruct (Req_dec K 0) as [zero | nonzero].
    - assert (E = 1) as -> by (unfold E; rewrite zero, Rmult_0_l, Ropp_0; apply exp_0); lra.
    - assert (apart : Rabs (c' - c) <= reach).
      { replace (c' - c) with ((y 0 - c) + - (y 0 - c')) by ring; unfold reach.
        rewrite <- (Rabs_Ropp (y 0 - c')); apply Rabs_triang. }
      assert (0 < K) as K_pos by lra; pose proof (Rabs_pos (c' - c)).
      assert (0 <= a / K <= 1 /\ 0 <= a' / K <= 1) as [share share'].
      { assert (a / K + a' / K = 1) by (unfold K; field; unfold K in nonzero; assumption).
        assert (0 <= a / K) by (apply Rmult_le_pos; [assumption | now apply Rlt_le, Rinv_0_lt_compat]).
        assert (0 <= a' / K) by (apply Rmult_le_pos; [assumption | now apply Rlt_le, Rinv_0_lt_compat]); lra. }
      split; apply Rmult_le_compat_l; try lra.
      + replace (C - c) with (a' / K * (c' - c)) by (unfold C, K; field; unfold K in nonzero; assumption).
        rewrite Rabs_mult, (Rabs_right (a' / K)) by lra; nra.
      + replace (C - c') with (a / K * - (c' - c)) by (unfold C, K; field; unfold K in nonzero; assumption).
        rewrite Rabs_mult, Rabs_Ropp, (Rabs_right (a / K)) by lra; nra. }
  assert (convex : forall x, Rabs (C + E * (y 0 - C) - x) <= (1 - E) * Rabs (C - x) + E * Rabs (y 0 - x)).
  { intros x; replace (C + E * (y 0 - C) - x) with ((1 - E) * (C - x) + E * (y 0 - x)) by ring.
    apply (Rle_trans _ _ _ (Rabs_triang _ _)); rewrite !Rabs_mult, (Rabs_right (1 - E)), (Rabs_right E) by lra; lra. }
  pose proof (Rabs_pos (y 0 - c)); pose proof (Rabs_pos (y 0 - c')).
  pose proof (convex c); pose proof (convex c'); unfold reach in *; split; nra.
Qed.

Lemma advance_along (n : nat) : y (INR (S n) * h) = advance (y (INR n * h)).
Proof.
  assert (0 <= INR n * h) by (apply Rmult_le_pos; [apply pos_INR | assumption]).
  rewrite S_INR, (path ((INR n + 1) * h)), (path (INR n * h)) by lra; unfold advance.
  replace (- (K * ((INR n + 1) * h))) with (- (K * h) + - (K * (INR n * h))) by ring; rewrite exp_plus; ring.
Qed.

Lemma mean_orders_follow (n : nat) :
  Rabs (Nat.iter n mean_order (y 0) - y (INR n * h)) <= INR n * (5/4 * (z * z) * (z * reach)).
Proof.
  induction n as [|n IH]; [simpl; rewrite !Rmult_0_l, Rminus_eq_0, Rabs_R0; lra |].
  rewrite advance_along, S_INR; simpl; set (m := Nat.iter n mean_order (y 0)) in *; set (v := y (INR n * h)) in *.
  assert (0 <= INR n * h) as time by (apply Rmult_le_pos; [apply pos_INR | assumption]).
  destruct (path_stays_near _ time) as [near near']; fold v in near, near'.
  replace (mean_order m - advance v) with ((mean_order m - mean_order v) + (mean_order v - advance v)) by ring.
  apply (Rle_trans _ _ _ (Rabs_triang _ _)).
  pose proof (mean_order_contracts m v); pose proof (local_error v) as local.
  assert (h * (k * Rabs (v - c) + k' * Rabs (v - c')) <= z * reach) as mass.
  { unfold z; rewrite Rmult_assoc; apply Rmult_le_compat_l; [assumption |]; nra. }
  assert (0 <= z * z) by nra; nra.
Qed.

End OneDirection.

Lemma iter_of_mean (h k k' c c' u v : R) (n : nat) : let f := mean_order h k k' c c' in
  (Nat.iter n f u + Nat.iter n f v) / 2 = Nat.iter n f ((u + v) / 2).
Proof.
  intros f; induction n as [|n IH]; [reflexivity |]; simpl; rewrite <- IH.
  unfold f at 1 3 5, mean_order, one_order; field.
Qed.

Lemma iter_last {T : Type} (f : T -> T) (n : nat) (x : T) : Nat.iter n f (f x) = f (Nat.iter n f x).
Proof. induction n as [|n IH]; [reflexivity | simpl; now rewrite IH]. Qed.

Lemma expected_is_iterated_mean (h : R) (k c k' c' : nat -> R) (n i : nat) : forall x,
  expected h (spring k c) (spring k' c') n x i = Nat.iter n (mean_order h (k i) (k' i) (c i) (c' i)) (x i).
Proof.
  induction n as [|n IH]; intros x; [reflexivity |]; simpl; rewrite !IH, iter_of_mean, <- iter_last; reflexivity.
Qed.

(** T26 for the split step. *)
Theorem split_steps_follow_their_modified_flow (d : nat) (h : R) (k c k' c' x : nat -> R)
  (X : R -> nat -> R) (n i : nat) :
  (i < d)%nat -> 0 <= h -> 0 <= k i -> 0 <= k' i -> h * (k i + k' i) <= 1 ->
  follows d (split_gradient h k c k' c') X x -> let T := INR n * h in let both := k i + k' i in
  Rabs (expected h (spring k c) (spring k' c') n x i - X T i)
  <= 5/4 * T * (both * both * both) * (h * h) * (Rabs (x i - c i) + Rabs (x i - c' i)).
Proof.
  intros i_lt h_nonneg k_nonneg k'_nonneg stable [start equation] T both.
  rewrite expected_is_iterated_mean, <- (start i i_lt).
  apply (Rle_trans _ _ _ (mean_orders_follow h (k i) (k' i) (c i) (c' i) h_nonneg k_nonneg k'_nonneg stable
    (fun t => X t i) (fun t t_nonneg => equation t i t_nonneg i_lt) n)).
  right; unfold T, both; field.
Qed.

Theorem split_loss_has_a_flow (d : nat) (h : R) (k c k' c' x : nat -> R) :
  0 <= h -> (forall i, (i < d)%nat -> 0 <= k i /\ 0 <= k' i) -> exists X, follows d (split_gradient h k c k' c') X x.
Proof.
  intros h_nonneg nonneg; pose (K i := stiffer h k i + stiffer h k' i).
  pose (C i := (stiffer h k i * c i + stiffer h k' i * c' i) / K i).
  destruct (quadratic_has_a_flow d K C x) as [start equation].
  exists (fun t i => C i + exp (- (K i * t)) * (x i - C i)); split; [exact start |]; intros t i t_nonneg i_lt.
  destruct (nonneg i i_lt) as [k_nonneg k'_nonneg]; unfold split_gradient, spring.
  unfold stiffer at 1 2; rewrite (pull_to_centre h (k i) (k' i) (c i) (c' i)) by assumption.
  exact (equation t i t_nonneg i_lt).
Qed.
