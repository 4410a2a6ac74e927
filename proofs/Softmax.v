(** * Softmax

    What is stated.  What the other files need to know of p = softmax(z), for logits z over a vocabulary of V tokens: it
    is a probability distribution, the residual e_y - p sums to 0, the inner product of two residuals (the summands of
    T2 and T3), and the two inequalities behind T12:

      lse z + Σ p_v u_v  ≤  lse (z + u)  ≤  lse z + Σ p_v u_v + (max u - min u)² / 8.

    The first is strict unless u is constant over the vocabulary; the second is Hoeffding's lemma, and no constant below
    1/8 would do.

    Scope.  Real arithmetic; overflow and rounding are the tests' business.

    Name              Meaning
    partition V z     Σ_v exp z_v
    softmax V z v     p_v = exp z_v / Σ_u exp z_u
    lse V z           ln Σ_v exp z_v
    logp V z y        ln p_y, written z_y - lse V z
    residual V z y    e_y - p
    shift z u         the logits z + u
    distribution V p  p_v ≥ 0 for every token, and Σ_v p_v = 1
    largest V u       max of u_v over the tokens v < V, for V ≥ 1
    smallest V u      min of u_v
    range V u         max u - min u
    constant_over V u u_v is the same for every token v < V *)

From Coq Require Import Reals Lra Psatz Lia Arith.
From Toymodel Require Import Sums.
Local Open Scope R_scope.

Definition partition (V : nat) (z : nat -> R) : R := Σ_(v < V) exp (z v).
Definition softmax (V : nat) (z : nat -> R) (v : nat) : R := exp (z v) / partition V z.
Definition lse (V : nat) (z : nat -> R) : R := ln (partition V z).
Definition logp (V : nat) (z : nat -> R) (y : nat) : R := z y - lse V z.
Definition residual (V : nat) (z : nat -> R) (y v : nat) : R := is y v - softmax V z v.

Definition shift (z u : nat -> R) (v : nat) : R := z v + u v.

Definition distribution (V : nat) (p : nat -> R) : Prop := (forall v, (v < V)%nat -> 0 <= p v) /\ sum V p = 1.

Fixpoint largest (V : nat) (u : nat -> R) : R :=
  match V with
  | O => 0
  | S O => u O
  | S V' => Rmax (largest V' u) (u V')
  end.

Definition smallest (V : nat) (u : nat -> R) : R := - largest V (fun v => - u v).
Definition range (V : nat) (u : nat -> R) : R := largest V u - smallest V u.

Definition constant_over (V : nat) (u : nat -> R) : Prop := forall v w, (v < V)%nat -> (w < V)%nat -> u v = u w.

(** ** Sums and inner products *)

Lemma sum_lt (n : nat) (f g : nat -> R) (k : nat) :
  (forall i, (i < n)%nat -> f i <= g i) -> (k < n)%nat -> f k < g k -> sum n f < sum n g.
Proof.
  intros le k_lt lt.
  assert (nonneg : forall i, (i < n)%nat -> 0 <= g i - f i) by (intros i i_lt; specialize (le i i_lt); lra).
  pose proof (term_le_sum n (fun i => g i - f i) k nonneg k_lt) as term; rewrite sum_minus in term; lra.
Qed.

Lemma sum_pos (n : nat) (f : nat -> R) : (0 < n)%nat -> (forall i, (i < n)%nat -> 0 < f i) -> 0 < sum n f.
Proof.
  intros n_pos pos; rewrite <- (sum_zero n (fun _ => 0)) by reflexivity.
  apply sum_lt with (k := 0%nat); auto using Rlt_le.
Qed.

Lemma dot_scale_right (n : nat) (a : R) (u v : nat -> R) : dot n u (fun i => a * v i) = a * dot n u v.
Proof. now rewrite dot_symmetric, dot_scale_left, dot_symmetric. Qed.

(** ** A softmax is a probability distribution *)

Lemma partition_pos (V : nat) (z : nat -> R) : (0 < V)%nat -> 0 < partition V z.
Proof. intros V_pos; apply sum_pos; auto using exp_pos. Qed.

Lemma softmax_pos (V : nat) (z : nat -> R) (v : nat) : (0 < V)%nat -> 0 < softmax V z v.
Proof. intros V_pos; apply Rdiv_lt_0_compat; [apply exp_pos | now apply partition_pos]. Qed.

Theorem softmax_sum (V : nat) (z : nat -> R) : (0 < V)%nat -> Σ_(v < V) softmax V z v = 1.
Proof.
  intros V_pos; pose proof (partition_pos V z V_pos).
  rewrite (sum_ext V _ (fun v => / partition V z * exp (z v))) by (intros; unfold softmax; field; lra).
  rewrite sum_scale; fold (partition V z); field; lra.
Qed.

Theorem softmax_is_a_distribution (V : nat) (z : nat -> R) : (0 < V)%nat -> distribution V (softmax V z).
Proof. intros V_pos; split; [intros; apply Rlt_le, softmax_pos | apply softmax_sum]; assumption. Qed.

Theorem softmax_at_most_one (V : nat) (z : nat -> R) (v : nat) : (v < V)%nat -> softmax V z v <= 1.
Proof.
  intros v_lt; assert (0 < V)%nat as V_pos by lia; rewrite <- (softmax_sum V z V_pos).
  apply term_le_sum; auto using Rlt_le, softmax_pos.
Qed.

Theorem two_tokens_at_most_one (V : nat) (z : nat -> R) (v u : nat) :
  (v < V)%nat -> (u < V)%nat -> v <> u -> softmax V z v + softmax V z u <= 1.
Proof.
  intros v_lt u_lt differ; assert (0 < V)%nat as V_pos by lia; rewrite <- (softmax_sum V z V_pos).
  rewrite <- (sum_is V v (softmax V z)), <- (sum_is V u (softmax V z)), <- sum_plus by assumption.
  apply sum_le; intros k _; pose proof (softmax_pos V z k V_pos).
  unfold is; destruct (Nat.eq_dec v k), (Nat.eq_dec u k); try lra; congruence.
Qed.

Theorem softmax_below_one (V : nat) (z : nat -> R) (v : nat) : (1 < V)%nat -> (v < V)%nat -> softmax V z v < 1.
Proof.
  intros V_large v_lt; set (u := if Nat.eq_dec v 0 then 1%nat else 0%nat).
  assert (u < V /\ v <> u)%nat as [u_lt differ] by (unfold u; destruct (Nat.eq_dec v 0); lia).
  assert (0 < V)%nat as V_pos by lia; pose proof (softmax_pos V z u V_pos).
  pose proof (two_tokens_at_most_one V z v u v_lt u_lt differ); lra.
Qed.

(** A token outside the vocabulary has no part in this: exp 1 > 1 would be its share of exp 0. *)
Example outside_the_vocabulary : 1 < softmax 1 INR 1.
Proof. unfold softmax, partition; simpl; rewrite exp_0; pose proof (exp_ineq1 1); lra. Qed.

Theorem exp_logp (V : nat) (z : nat -> R) (y : nat) : (0 < V)%nat -> exp (logp V z y) = softmax V z y.
Proof.
  intros V_pos; pose proof (partition_pos V z V_pos).
  unfold logp, lse, softmax, Rminus, Rdiv; rewrite exp_plus, exp_Ropp, exp_ln by assumption; reflexivity.
Qed.

Theorem ln_softmax (V : nat) (z : nat -> R) (y : nat) : (0 < V)%nat -> ln (softmax V z y) = logp V z y.
Proof. intros V_pos; rewrite <- exp_logp by assumption; apply ln_exp. Qed.

Theorem softmax_lt_iff_logp_lt (V : nat) (z z' : nat -> R) (y y' : nat) : (0 < V)%nat ->
  (softmax V z y < softmax V z' y' <-> logp V z y < logp V z' y').
Proof. intros V_pos; rewrite <- !exp_logp by assumption; split; [apply exp_lt_inv | apply exp_increasing]. Qed.

Theorem uniform_softmax (V : nat) (c : R) (v : nat) : (0 < V)%nat -> softmax V (fun _ => c) v = 1 / INR V.
Proof.
  intros V_pos; unfold softmax, partition; rewrite sum_const.
  pose proof (exp_pos c); pose proof (lt_0_INR V V_pos); field; lra.
Qed.

(** Any probabilities, none of them 0, are a softmax: of their logarithms. *)
Theorem softmax_of_logarithms (V : nat) (p : nat -> R) (v : nat) :
  (forall u, (u < V)%nat -> 0 < p u) -> sum V p = 1 -> (v < V)%nat -> softmax V (fun u => ln (p u)) v = p v.
Proof.
  intros pos total v_lt; unfold softmax, partition.
  rewrite (sum_ext V _ p), total, exp_ln by (intros; auto using exp_ln); field.
Qed.

(** ** Residuals *)

Theorem residual_sum (V : nat) (z : nat -> R) (y : nat) : (y < V)%nat -> Σ_(v < V) residual V z y v = 0.
Proof.
  intros y_lt; unfold residual; rewrite sum_minus, softmax_sum by lia.
  rewrite (sum_ext V _ (fun v => is y v * 1)) by (intros; ring); rewrite sum_is by assumption; ring.
Qed.

(** For any vectors p and q: ⟨e_y - p, e_y' - q⟩ = 1[y = y'] - p_y' - q_y + ⟨p, q⟩. *)
Lemma dot_unit_minus (V : nat) (p q : nat -> R) (y y' : nat) : (y < V)%nat -> (y' < V)%nat ->
  dot V (fun v => is y v - p v) (fun v => is y' v - q v) = is y y' - p y' - q y + dot V p q.
Proof.
  intros y_lt y'_lt; rewrite dot_minus_left, dot_is_left by assumption.
  rewrite (dot_symmetric V p), dot_minus_left, dot_is_left by assumption.
  rewrite (dot_symmetric V q), (is_symmetric y' y); ring.
Qed.

Theorem residual_dot (V : nat) (z z' : nat -> R) (y y' : nat) : (y < V)%nat -> (y' < V)%nat ->
  dot V (residual V z y) (residual V z' y')
  = is y y' - softmax V z y' - softmax V z' y + dot V (softmax V z) (softmax V z').
Proof. apply dot_unit_minus. Qed.

Theorem residual_dot_same_context (V : nat) (z : nat -> R) (y y' : nat) : (y < V)%nat -> (y' < V)%nat ->
  dot V (residual V z y) (residual V z y')
  = is y y' - softmax V z y - softmax V z y' + dot V (softmax V z) (softmax V z).
Proof. intros; rewrite residual_dot by assumption; ring. Qed.

Theorem residual_norm (V : nat) (z : nat -> R) (y : nat) : (y < V)%nat ->
  dot V (residual V z y) (residual V z y) = 1 - 2 * softmax V z y + dot V (softmax V z) (softmax V z).
Proof. intros; rewrite residual_dot_same_context, is_same by assumption; ring. Qed.

(** Against any vector u: ⟨e_y - p, u⟩ = u_y - Σ p_v u_v. *)
Theorem residual_dot_vector (V : nat) (z u : nat -> R) (y : nat) : (y < V)%nat ->
  dot V (residual V z y) u = u y - dot V (softmax V z) u.
Proof. intros y_lt; unfold residual; now rewrite dot_minus_left, dot_is_left by assumption. Qed.

(** ** Shifted logits *)

(** Z(z + u) = Z(z) Σ p_v exp u_v: how the logits move decides everything, where they are enters through p alone. *)
Lemma partition_shift (V : nat) (z u : nat -> R) : (0 < V)%nat ->
  partition V (shift z u) = partition V z * Σ_(v < V) softmax V z v * exp (u v).
Proof.
  intros V_pos; pose proof (partition_pos V z V_pos); rewrite <- sum_scale.
  apply sum_ext; intros v _; unfold shift, softmax; rewrite exp_plus; field; lra.
Qed.

Lemma tilted_mean_pos (V : nat) (z u : nat -> R) : (0 < V)%nat -> 0 < Σ_(v < V) softmax V z v * exp (u v).
Proof. intros V_pos; apply sum_pos; auto using Rmult_lt_0_compat, softmax_pos, exp_pos. Qed.

Lemma lse_shift (V : nat) (z u : nat -> R) : (0 < V)%nat ->
  lse V (shift z u) = lse V z + ln (Σ_(v < V) softmax V z v * exp (u v)).
Proof.
  intros V_pos; unfold lse; rewrite partition_shift by assumption.
  apply ln_mult; [now apply partition_pos | now apply tilted_mean_pos].
Qed.

Theorem softmax_shift (V : nat) (z u : nat -> R) (v : nat) : (0 < V)%nat ->
  softmax V (shift z u) v = softmax V z v * exp (u v) / Σ_(k < V) softmax V z k * exp (u k).
Proof.
  intros V_pos; pose proof (partition_pos V z V_pos); pose proof (tilted_mean_pos V z u V_pos).
  unfold softmax at 1; rewrite partition_shift by assumption; unfold shift at 1; rewrite exp_plus.
  unfold softmax at 2; field; lra.
Qed.

(** Adding one and the same number to all logits changes no probability. *)
Theorem softmax_uniform_shift (V : nat) (z : nat -> R) (c : R) (v : nat) : (0 < V)%nat ->
  softmax V (shift z (fun _ => c)) v = softmax V z v.
Proof.
  intros V_pos; rewrite softmax_shift by assumption.
  rewrite (sum_ext V _ (fun k => exp c * softmax V z k)) by (intros; ring).
  rewrite sum_scale, softmax_sum by assumption; pose proof (exp_pos c); field; lra.
Qed.

(** ** The lower bound: lse is convex *)

Lemma exp_monotone (x y : R) : x <= y -> exp x <= exp y.
Proof. intros [lt | <-]; [apply Rlt_le, exp_increasing |]; auto with real. Qed.

Lemma ln_monotone (x y : R) : 0 < x -> x <= y -> ln x <= ln y.
Proof. intros x_pos [lt | <-]; [apply Rlt_le, ln_increasing |]; auto with real. Qed.

Lemma tangent (x m : R) : exp m * (1 + (x - m)) <= exp x.
Proof.
  replace (exp x) with (exp m * exp (x - m)) by (rewrite <- exp_plus; f_equal; ring).
  apply Rmult_le_compat_l; [apply Rlt_le, exp_pos | apply exp_ineq1_le].
Qed.

Lemma tangent_strict (x m : R) : x <> m -> exp m * (1 + (x - m)) < exp x.
Proof.
  intros differ; replace (exp x) with (exp m * exp (x - m)) by (rewrite <- exp_plus; f_equal; ring).
  apply Rmult_lt_compat_l; [apply exp_pos | apply exp_ineq1; lra].
Qed.

(** The mean of an affine function of u. *)
Lemma mean_affine (V : nat) (p u : nat -> R) (a b : R) : sum V p = 1 ->
  Σ_(v < V) p v * (a + b * u v) = a + b * dot V p u.
Proof.
  intros total; rewrite (sum_ext V _ (fun v => a * p v + b * (p v * u v))) by (intros; ring).
  rewrite sum_plus, !sum_scale, total; unfold dot; ring.
Qed.

Lemma weighted_tangents (V : nat) (p u : nat -> R) (m : R) : sum V p = 1 ->
  Σ_(v < V) p v * (exp m * (1 + (u v - m))) = exp m * (1 + (dot V p u - m)).
Proof.
  intros total; rewrite (sum_ext V _ (fun v => p v * (exp m * (1 - m) + exp m * u v))) by (intros; ring).
  rewrite mean_affine by assumption; ring.
Qed.

(** Jensen's inequality for exp, by its tangent at the mean m: Σ p_v exp u_v ≥ Σ p_v exp m (1 + u_v - m) = exp m. *)
Lemma jensen (V : nat) (p u : nat -> R) : distribution V p -> exp (dot V p u) <= Σ_(v < V) p v * exp (u v).
Proof.
  intros [nonneg total].
  apply Rle_trans with (exp (dot V p u) * (1 + (dot V p u - dot V p u))); [lra |].
  rewrite <- weighted_tangents by assumption; apply sum_le; intros v v_lt.
  apply Rmult_le_compat_l; [auto | apply tangent].
Qed.

Lemma jensen_strict (V : nat) (p u : nat -> R) (v w : nat) : (forall k, (k < V)%nat -> 0 < p k) -> sum V p = 1 ->
  (v < V)%nat -> (w < V)%nat -> u v <> u w -> exp (dot V p u) < Σ_(k < V) p k * exp (u k).
Proof.
  intros pos total v_lt w_lt differ.
  assert (exists k, (k < V)%nat /\ u k <> dot V p u) as (k & k_lt & off_mean).
  { destruct (Req_dec (u v) (dot V p u)); [exists w | exists v]; split; congruence || assumption. }
  apply Rle_lt_trans with (exp (dot V p u) * (1 + (dot V p u - dot V p u))); [lra |].
  rewrite <- weighted_tangents by assumption; apply sum_lt with (k := k); [| assumption |].
  - intros i i_lt; apply Rmult_le_compat_l; [auto using Rlt_le | apply tangent].
  - apply Rmult_lt_compat_l; [auto | now apply tangent_strict].
Qed.

Theorem lse_shift_lower (V : nat) (z u : nat -> R) : (0 < V)%nat ->
  lse V z + dot V (softmax V z) u <= lse V (shift z u).
Proof.
  intros V_pos; rewrite lse_shift by assumption; apply Rplus_le_compat_l.
  rewrite <- (ln_exp (dot V (softmax V z) u)) at 1.
  apply ln_monotone; [apply exp_pos | apply jensen; now apply softmax_is_a_distribution].
Qed.

Theorem lse_shift_lower_strict (V : nat) (z u : nat -> R) (v w : nat) : (v < V)%nat -> (w < V)%nat -> u v <> u w ->
  lse V z + dot V (softmax V z) u < lse V (shift z u).
Proof.
  intros v_lt w_lt differ; assert (0 < V)%nat as V_pos by lia.
  rewrite lse_shift by assumption; apply Rplus_lt_compat_l.
  rewrite <- (ln_exp (dot V (softmax V z) u)) at 1.
  apply ln_increasing; [apply exp_pos | apply jensen_strict with v w; auto using softmax_pos, softmax_sum].
Qed.

(** ** The upper bound: Hoeffding's lemma *)

(** What does not fall from 0 to h, seen from its derivative. *)
Lemma nonneg_from_slope (f f' : R -> R) (h : R) : f 0 = 0 -> 0 <= h ->
  (forall x, derivable_pt_lim f x (f' x)) -> (forall x, 0 <= x <= h -> 0 <= f' x) -> 0 <= f h.
Proof.
  intros start [h_pos | <-] derivative nonneg; [| lra].
  destruct (MVT_cor2 f f' 0 h h_pos (fun c _ => derivative c)) as (c & increase & between).
  assert (0 <= f' c) by (apply nonneg; lra); nra.
Qed.

Lemma nonpos_from_slope (f f' : R -> R) (h : R) : f 0 = 0 -> 0 <= h ->
  (forall x, derivable_pt_lim f x (f' x)) -> (forall x, 0 <= x <= h -> f' x <= 0) -> f h <= 0.
Proof.
  intros start h_nonneg derivative nonpos; enough (0 <= - f h) by lra.
  apply (nonneg_from_slope (opp_fct f) (fun x => - f' x)); [unfold opp_fct; lra | assumption | |].
  - intros x; now apply derivable_pt_lim_opp.
  - intros x between; specialize (nonpos x between); lra.
Qed.

(** A coin that gives h with probability q and 0 otherwise, weighted by exp: its new probability of h. *)
Definition coin_partition (q x : R) : R := 1 - q + q * exp x.
Definition tilted_coin (q x : R) : R := q * exp x / coin_partition q x.

Lemma coin_partition_pos (q x : R) : 0 <= q <= 1 -> 0 < coin_partition q x.
Proof. intros; unfold coin_partition; pose proof (exp_pos x); destruct (Req_dec q 0) as [-> |]; nra. Qed.

Lemma coin_partition_slope (q x : R) : derivable_pt_lim (coin_partition q) x (q * exp x).
Proof.
  replace (q * exp x) with (0 + q * exp x) by ring.
  apply (derivable_pt_lim_plus (fct_cte (1 - q)) (mult_real_fct q exp)).
  - apply derivable_pt_lim_const.
  - apply derivable_pt_lim_scal, derivable_pt_lim_exp.
Qed.

Lemma tilted_coin_slope (q x : R) : 0 <= q <= 1 ->
  derivable_pt_lim (tilted_coin q) x (tilted_coin q x * (1 - tilted_coin q x)).
Proof.
  intros coin; pose proof (coin_partition_pos q x coin) as pos.
  replace (tilted_coin q x * _) with
    ((q * exp x * coin_partition q x - q * exp x * (q * exp x)) / Rsqr (coin_partition q x))
    by (unfold tilted_coin, Rsqr; field; lra).
  apply (derivable_pt_lim_div (mult_real_fct q exp) (coin_partition q)); [| apply coin_partition_slope | lra].
  apply derivable_pt_lim_scal, derivable_pt_lim_exp.
Qed.

Lemma line_minus_tilted_coin_slope (q a x : R) : 0 <= q <= 1 ->
  derivable_pt_lim (fun t => a * t - (tilted_coin q t - q)) x (a * 1 - (tilted_coin q x * (1 - tilted_coin q x) - 0)).
Proof.
  intros coin; apply (derivable_pt_lim_minus (mult_real_fct a id) (fun t => tilted_coin q t - q)).
  - apply derivable_pt_lim_scal, derivable_pt_lim_id.
  - apply (derivable_pt_lim_minus (tilted_coin q) (fct_cte q)); [now apply tilted_coin_slope |].
    apply derivable_pt_lim_const.
Qed.

Lemma parabola_minus_ln_slope (q a x : R) : 0 <= q <= 1 ->
  derivable_pt_lim (fun t => q * t + a * Rsqr t - ln (coin_partition q t)) x
    (q * 1 + a * (2 * x) - tilted_coin q x).
Proof.
  intros coin; apply (derivable_pt_lim_minus (fun t => q * t + a * Rsqr t) (comp ln (coin_partition q))).
  - apply (derivable_pt_lim_plus (mult_real_fct q id) (mult_real_fct a Rsqr));
      apply derivable_pt_lim_scal; [apply derivable_pt_lim_id | apply derivable_pt_lim_Rsqr].
  - replace (tilted_coin q x) with (/ coin_partition q x * (q * exp x)) by (unfold tilted_coin, Rdiv; ring).
    apply derivable_pt_lim_comp; [apply coin_partition_slope |].
    now apply derivable_pt_lim_ln, coin_partition_pos.
Qed.

Lemma tilted_coin_at_zero (q : R) : tilted_coin q 0 = q.
Proof. unfold tilted_coin, coin_partition; rewrite exp_0; field; lra. Qed.

Lemma ln_coin_partition_at_zero (q : R) : ln (coin_partition q 0) = 0.
Proof. unfold coin_partition; rewrite exp_0; replace (1 - q + q * 1) with 1 by ring; apply ln_1. Qed.

(** x / 4 - (tilted_coin q x - q) is 0 at 0 and its slope is 1/4 - s (1 - s) = (1/2 - s)² ≥ 0. *)
Lemma tilted_coin_below (q x : R) : 0 <= q <= 1 -> 0 <= x -> tilted_coin q x - q <= x / 4.
Proof.
  intros coin x_nonneg; enough (0 <= / 4 * x - (tilted_coin q x - q)) by lra.
  refine (nonneg_from_slope _ _ x _ x_nonneg (fun t => line_minus_tilted_coin_slope q (/ 4) t coin) _).
  - rewrite tilted_coin_at_zero; ring.
  - intros t _; pose proof (Rle_0_sqr (/ 2 - tilted_coin q t)); unfold Rsqr in *; lra.
Qed.

(** Its slope is the quantity of the lemma before. *)
Lemma ln_coin_partition_below (q h : R) : 0 <= q <= 1 -> 0 <= h -> ln (coin_partition q h) <= q * h + h * h / 8.
Proof.
  intros coin h_nonneg; enough (0 <= q * h + / 8 * Rsqr h - ln (coin_partition q h)) by (unfold Rsqr in *; lra).
  refine (nonneg_from_slope _ _ h _ h_nonneg (fun t => parabola_minus_ln_slope q (/ 8) t coin) _).
  - rewrite ln_coin_partition_at_zero; unfold Rsqr; ring.
  - intros t [t_nonneg _]; pose proof (tilted_coin_below q t coin t_nonneg); lra.
Qed.

(** Between lo and hi, exp lies below its chord: add up its tangents at x, taken at both ends. *)
Lemma chord (lo hi x : R) : lo <= x <= hi -> (hi - lo) * exp x <= (hi - x) * exp lo + (x - lo) * exp hi.
Proof.
  intros between; pose proof (tangent lo x); pose proof (tangent hi x); pose proof (exp_pos x).
  apply Rle_trans with ((hi - x) * (exp x * (1 + (lo - x))) + (x - lo) * (exp x * (1 + (hi - x)))); [lra |].
  apply Rplus_le_compat; apply Rmult_le_compat_l; lra.
Qed.

Lemma mean_between (V : nat) (p u : nat -> R) (lo hi : R) : distribution V p ->
  (forall v, (v < V)%nat -> lo <= u v <= hi) -> lo <= dot V p u <= hi.
Proof.
  intros [nonneg total] between.
  replace lo with (lo + 0 * dot V p u) by ring; replace hi with (hi + 0 * dot V p u) by ring.
  rewrite <- !mean_affine by assumption.
  split; apply sum_le; intros v v_lt; (apply Rmult_le_compat_l; [auto |]); specialize (between v v_lt); lra.
Qed.

Lemma mean_of_chords (V : nat) (p u : nat -> R) (lo hi : R) : distribution V p ->
  (forall v, (v < V)%nat -> lo <= u v <= hi) ->
  (hi - lo) * (Σ_(v < V) p v * exp (u v)) <= (hi - dot V p u) * exp lo + (dot V p u - lo) * exp hi.
Proof.
  intros [nonneg total] between; rewrite <- sum_scale.
  replace (_ + _) with (hi * exp lo - lo * exp hi + (exp hi - exp lo) * dot V p u) by ring.
  rewrite <- mean_affine by assumption; apply sum_le; intros v v_lt.
  pose proof (chord lo hi (u v) (between v v_lt)); specialize (nonneg v v_lt); nra.
Qed.

(** Hoeffding's lemma.  Among all distributions with mean m the coin on lo and hi has the largest mean of exp. *)
Theorem hoeffding (V : nat) (p u : nat -> R) (lo hi : R) : distribution V p ->
  (forall v, (v < V)%nat -> lo <= u v <= hi) ->
  Σ_(v < V) p v * exp (u v) <= exp (dot V p u + (hi - lo) * (hi - lo) / 8).
Proof.
  intros p_dist between; pose proof (mean_between V p u lo hi p_dist between) as mean.
  pose proof (mean_of_chords V p u lo hi p_dist between) as below; set (m := dot V p u) in *.
  destruct (Req_dec lo hi) as [same | lo_ne_hi].
  - replace (m + _) with lo by (replace hi with lo by assumption; lra); destruct p_dist as [nonneg total].
    rewrite (sum_ext V _ (fun v => exp lo * p v)), sum_scale, total by
      (intros v v_lt; specialize (between v v_lt); replace (u v) with lo by lra; ring).
    lra.
  - assert (0 < hi - lo) as h_pos by lra; pose (q := (m - lo) / (hi - lo)).
    assert (m = lo + q * (hi - lo)) as m_is by (unfold q; field; lra).
    assert (0 <= q <= 1) as coin by (split; nra).
    apply Rle_trans with (exp lo * coin_partition q (hi - lo)).
    + apply (Rmult_le_reg_l (hi - lo)); [assumption |]; apply (Rle_trans _ _ _ below), Req_le.
      unfold coin_partition; replace (exp hi) with (exp lo * exp (hi - lo)) by (rewrite <- exp_plus; f_equal; ring).
      rewrite m_is; ring.
    + rewrite <- (exp_ln (coin_partition q (hi - lo))), <- exp_plus by now apply coin_partition_pos.
      apply exp_monotone; pose proof (ln_coin_partition_below q (hi - lo) coin); lra.
Qed.

Theorem lse_shift_upper (V : nat) (z u : nat -> R) (lo hi : R) : (0 < V)%nat ->
  (forall v, (v < V)%nat -> lo <= u v <= hi) ->
  lse V (shift z u) <= lse V z + dot V (softmax V z) u + (hi - lo) * (hi - lo) / 8.
Proof.
  intros V_pos between; rewrite lse_shift, Rplus_assoc by assumption; apply Rplus_le_compat_l.
  rewrite <- (ln_exp (dot V _ u + _)).
  apply ln_monotone; [now apply tilted_mean_pos | apply hoeffding; auto using softmax_is_a_distribution].
Qed.

(** The same for a multiple of u, of either sign. *)
Theorem lse_shift_upper_multiple (V : nat) (z u : nat -> R) (a lo hi : R) : (0 < V)%nat ->
  (forall v, (v < V)%nat -> lo <= u v <= hi) ->
  lse V (shift z (fun v => a * u v))
  <= lse V z + a * dot V (softmax V z) u + a * a * ((hi - lo) * (hi - lo) / 8).
Proof.
  intros V_pos between; rewrite <- dot_scale_right; destruct (Rle_lt_dec 0 a) as [a_nonneg | a_neg].
  - replace (a * a * _) with ((a * hi - a * lo) * (a * hi - a * lo) / 8) by field.
    apply lse_shift_upper; [assumption | intros v v_lt; specialize (between v v_lt); split; nra].
  - replace (a * a * _) with ((a * lo - a * hi) * (a * lo - a * hi) / 8) by field.
    apply lse_shift_upper; [assumption | intros v v_lt; specialize (between v v_lt); split; nra].
Qed.

(** Equality in both: adding one number to all logits adds it to lse, and no log-probability changes. *)
Theorem lse_constant_shift (V : nat) (z u : nat -> R) (v : nat) : (v < V)%nat -> constant_over V u ->
  lse V (shift z u) = lse V z + u v.
Proof.
  intros v_lt constant; assert (0 < V)%nat as V_pos by lia.
  assert (forall k, (k < V)%nat -> u v <= u k <= u v) as between.
  { intros k k_lt; rewrite (constant k v k_lt v_lt); lra. }
  pose proof (mean_between V _ u _ _ (softmax_is_a_distribution V z V_pos) between).
  pose proof (lse_shift_upper V z u _ _ V_pos between); pose proof (lse_shift_lower V z u V_pos); lra.
Qed.

(** No smaller constant would do: a fair coin on 0 and h comes as close to it as one likes, for small h. *)
Lemma fair_coin_above (a h x : R) : 0 <= x <= h -> a <= / 4 - h * h / 16 -> a * x <= tilted_coin (/ 2) x - / 2.
Proof.
  intros between small; pose proof (line_minus_tilted_coin_slope (/ 2) a) as slope.
  enough (a * x - (tilted_coin (/ 2) x - / 2) <= 0) by lra.
  refine (nonpos_from_slope _ _ x _ (proj1 between) (fun t => slope t _) _);
    [rewrite tilted_coin_at_zero; ring | lra |].
  intros t t_between; assert (0 <= / 2 <= 1) as fair by lra.
  pose proof (tilted_coin_below (/ 2) t fair (proj1 t_between)) as above.
  assert (/ 2 <= tilted_coin (/ 2) t) as below.
  { unfold tilted_coin; pose proof (coin_partition_pos (/ 2) t fair) as pos; pose proof (exp_ineq1_le t).
    apply (Rmult_le_reg_r (coin_partition (/ 2) t)); [assumption |].
    unfold Rdiv at 1; rewrite Rmult_assoc, Rinv_l, Rmult_1_r by lra; unfold coin_partition; nra. }
  assert ((tilted_coin (/ 2) t - / 2) * (tilted_coin (/ 2) t - / 2) <= h / 4 * (h / 4))
    by (apply Rmult_le_compat; lra).
  lra.
Qed.

Lemma ln_fair_coin_above (a h : R) : 0 <= h -> 2 * a <= / 4 - h * h / 16 ->
  / 2 * h + a * (h * h) <= ln (coin_partition (/ 2) h).
Proof.
  intros h_nonneg small; pose proof (parabola_minus_ln_slope (/ 2) a) as slope.
  enough (/ 2 * h + a * Rsqr h - ln (coin_partition (/ 2) h) <= 0) by (unfold Rsqr in *; lra).
  refine (nonpos_from_slope _ _ h _ h_nonneg (fun t => slope t _) _); [| lra |].
  - rewrite ln_coin_partition_at_zero; unfold Rsqr; ring.
  - intros t between; pose proof (fair_coin_above (2 * a) h t between small); lra.
Qed.

Theorem one_eighth_is_the_best_constant (c : R) : c < 1 / 8 -> exists h, 0 < h /\
  let z (_ : nat) := 0 in let u v := h * is 1 v in
  lse 2 z + dot 2 (softmax 2 z) u + c * (h * h) < lse 2 (shift z u).
Proof.
  intros c_small; pose (h := Rmin 1 (1 / 8 - c)).
  assert (0 < h) as h_pos by (apply Rmin_glb_lt; lra).
  assert (h <= 1 /\ h <= 1 / 8 - c) as [h_le_1 h_le] by (split; [apply Rmin_l | apply Rmin_r]).
  exists h; split; [assumption | intros z u].
  assert (0 < h * h <= h) as square by (split; nra).
  assert (0 < (1 / 8 - c) * (h * h)) as slack by (apply Rmult_lt_0_compat; lra).
  assert (/ 2 * h + (c + 1 / 8) / 2 * (h * h) <= ln (coin_partition (/ 2) h)) as above
    by (apply ln_fair_coin_above; lra).
  assert (u 0%nat = 0 /\ u 1%nat = h) as [u_0 u_1] by (unfold u; rewrite is_same, is_different by lia; lra).
  rewrite lse_shift by lia; unfold dot; simpl; rewrite u_0, u_1, exp_0.
  unfold z; rewrite !uniform_softmax by lia; simpl; replace (1 / (1 + 1)) with (/ 2) by field.
  replace (0 + / 2 * 1 + / 2 * exp h) with (coin_partition (/ 2) h) by (unfold coin_partition; field).
  lra.
Qed.

(** ** The range of a vector *)

Lemma largest_bound (V : nat) (u : nat -> R) (v : nat) : (v < V)%nat -> u v <= largest V u.
Proof.
  induction V as [|[|V] IH]; intros v_lt; [lia | |].
  - replace v with 0%nat by lia; simpl; lra.
  - change (u v <= Rmax (largest (S V) u) (u (S V))).
    destruct (Nat.eq_dec v (S V)) as [-> | differ]; [apply Rmax_r |].
    apply Rle_trans with (largest (S V) u); [apply IH; lia | apply Rmax_l].
Qed.

Lemma largest_attained (V : nat) (u : nat -> R) : (0 < V)%nat -> exists v, (v < V)%nat /\ largest V u = u v.
Proof.
  induction V as [|[|V] IH]; intros V_pos; [lia | exists 0%nat; auto |].
  destruct IH as (v & v_lt & attained); [lia |].
  change (largest (S (S V)) u) with (Rmax (largest (S V) u) (u (S V))).
  apply Rmax_case; [exists v | exists (S V)]; auto.
Qed.

Lemma smallest_bound (V : nat) (u : nat -> R) (v : nat) : (v < V)%nat -> smallest V u <= u v.
Proof. intros v_lt; pose proof (largest_bound V (fun k => - u k) v v_lt) as bound; unfold smallest; lra. Qed.

Lemma smallest_attained (V : nat) (u : nat -> R) : (0 < V)%nat -> exists v, (v < V)%nat /\ smallest V u = u v.
Proof.
  intros V_pos; destruct (largest_attained V (fun k => - u k) V_pos) as (v & v_lt & attained).
  exists v; split; [assumption | unfold smallest; rewrite attained; ring].
Qed.

Lemma range_nonneg (V : nat) (u : nat -> R) : (0 < V)%nat -> 0 <= range V u.
Proof.
  intros V_pos; pose proof (largest_bound V u 0 V_pos); pose proof (smallest_bound V u 0 V_pos).
  unfold range; lra.
Qed.

Theorem range_zero_iff_constant (V : nat) (u : nat -> R) : (0 < V)%nat -> (range V u = 0 <-> constant_over V u).
Proof.
  intros V_pos; unfold range; split.
  - intros none v w v_lt w_lt.
    pose proof (largest_bound V u v v_lt); pose proof (smallest_bound V u v v_lt).
    pose proof (largest_bound V u w w_lt); pose proof (smallest_bound V u w w_lt); lra.
  - intros constant; destruct (largest_attained V u V_pos) as (v & v_lt & ->).
    destruct (smallest_attained V u V_pos) as (w & w_lt & ->); rewrite (constant v w); lra || assumption.
Qed.

(** (a - b)² ≤ 2a² + 2b², and both ends are among the entries of u. *)
Theorem range_below_norm (V : nat) (u : nat -> R) : (0 < V)%nat -> range V u * range V u <= 2 * dot V u u.
Proof.
  intros V_pos; destruct (largest_attained V u V_pos) as (v & v_lt & top).
  destruct (smallest_attained V u V_pos) as (w & w_lt & bottom); unfold range; rewrite top, bottom.
  assert (0 <= dot V u u) by apply dot_self_nonneg.
  destruct (Nat.eq_dec v w) as [<- | differ]; [lra |].
  enough (u v * u v + u w * u w <= dot V u u) by (pose proof (Rle_0_sqr (u v + u w)); unfold Rsqr in *; lra).
  rewrite <- (sum_is V v (fun k => u k * u k)), <- (sum_is V w (fun k => u k * u k)), <- sum_plus by assumption.
  apply sum_le; intros k _; pose proof (Rle_0_sqr (u k)); unfold Rsqr in *.
  unfold is; destruct (Nat.eq_dec v k), (Nat.eq_dec w k); try lra; congruence.
Qed.

Corollary lse_shift_upper_range (V : nat) (z u : nat -> R) (a : R) : (0 < V)%nat ->
  lse V (shift z (fun v => a * u v))
  <= lse V z + a * dot V (softmax V z) u + a * a * (range V u * range V u / 8).
Proof.
  intros V_pos; apply lse_shift_upper_multiple; [assumption |].
  intros v v_lt; split; [now apply smallest_bound | now apply largest_bound].
Qed.
