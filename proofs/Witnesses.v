(** * What the theorems apply to

    What is stated.  For claims with hypotheses: that there is something which satisfies them all (see Applies.v).

    Scope.  One example each, as small as it can be: vocabularies of one or two tokens, answers of one, vectors of the
    plane.  [found] tries a few values for every variable in turn, and goes back where a hypothesis then fails.
    proofs/no_example_yet.txt lists the claims that still want one.

    Name               Meaning
    half               1/2 everywhere
    one_token_text y   the answer of the one token y, after a context with the feature 1 *)

From Toymodel Require Import Applies Sums Condition Softmax Slopes Entanglement SingleToken Overlap Suffix FiniteStep.
From Toymodel Require Import Squeezing Mass Flow Groups Remedies Crowd Account Midpoint CommonStep Credit Modified Fisher.
From Coq Require Import List Reals Lra Psatz Lia.
Local Open Scope R_scope.

Definition half (_ : nat) : R := 1 / 2.
Definition one_token_text (y : nat) : response := Response 1 (fun _ => y) (fun _ _ => 0) (fun _ _ => 1).

Lemma plane : semi_inner_product plane_plus plane_scale plane_ip.
Proof. exact plane_is_such_a_space. Qed.

Ltac small :=
  first [ assumption | exact plane | lia | lra | reflexivity | discriminate
        | simpl; lia | simpl; lra | simpl; nra ].
Ltac hyp :=
  first [ small
        | cbv delta [psd separates distribution in_vocabulary fits uniform aligned wl ww ll chosen_slope rejected_slope
            half one_token_text dot]; cbn;
          first [ small | intros; small | repeat split; intros; small
                | intros [|[|[|?]]]; intros; small
                | split; [intros [|[|[|?]]]; intros; small | small ] ] ].

Ltac found_in k :=
  lazymatch type of k with
  | forall x : ?A, _ =>
      let A := eval hnf in A in
      let s := type of A in
      lazymatch s with
      | Prop => let h := fresh "h" in assert (h : A) by hyp; specialize (k h)
      | _ =>
        lazymatch A with
        | nat => (specialize (k 1%nat) + specialize (k 0%nat) + specialize (k 2%nat))
        | R => (specialize (k (1/2)) + specialize (k 1) + specialize (k (1/4)) + specialize (k 0) + specialize (k 2))
        | gram => (specialize (k (Gram 2 2 1)) + specialize (k (Gram 2 5 3))
            + specialize (k (Gram 5 2 3)) + specialize (k (Gram 1 1 (-1))) + specialize (k (Gram 4 1 2)))
        | nat -> R => (specialize (k half) + specialize (k (fun _ => 1))
            + specialize (k (fun _ => 0)) + specialize (k (is 0)))
        | nat -> nat => (specialize (k (fun _ => 0%nat)) + specialize (k (fun _ => 1%nat))
            + specialize (k (fun i => i)))
        | nat -> nat -> R => (specialize (k (fun _ _ => 0)) + specialize (k is))
        | response => (specialize (k (one_token_text 0)) + specialize (k (one_token_text 1)))
        | Type => specialize (k (R * R)%type)
        | R * R -> R * R -> R * R => specialize (k plane_plus)
        | R -> R * R -> R * R => specialize (k plane_scale)
        | R * R -> R * R -> R => specialize (k plane_ip)
        | (R * R)%type => (specialize (k (1, 0)) + specialize (k (0, 1)) + specialize (k (1, 1)))
        | nat -> (R * R)%type => (specialize (k (fun _ => (1, 0))) + specialize (k (fun _ => (0, 1))))
        | R * R -> R * R => (specialize (k (fun v => v)))
        end
      end; cbv beta zeta in k; found_in k
  | _ => exact k
  end.
Ltac found := let k := fresh "k" in intros k; found_in k.

(** ** Condition *)

Lemma margin_slope_nonneg_applies : ltac:(applies @margin_slope_nonneg). Proof. found. Qed.
Lemma weighted_margin_slope_nonneg_applies : ltac:(applies @weighted_margin_slope_nonneg). Proof. found. Qed.
Lemma chosen_up_rejected_down_iff_applies : ltac:(applies @chosen_up_rejected_down_iff). Proof. found. Qed.
Lemma both_down_iff_applies : ltac:(applies @both_down_iff). Proof. found. Qed.
Lemma both_up_iff_applies : ltac:(applies @both_up_iff). Proof. found. Qed.
Lemma rejected_up_only_if_chosen_up_applies : ltac:(applies @rejected_up_only_if_chosen_up). Proof. found. Qed.
Lemma chosen_down_only_if_rejected_down_applies : ltac:(applies @chosen_down_only_if_rejected_down). Proof. found. Qed.
Lemma chosen_down_rejected_up_never_applies : ltac:(applies @chosen_down_rejected_up_never). Proof. found. Qed.
Lemma three_cases_only_applies : ltac:(applies @three_cases_only). Proof. found. Qed.
Lemma cauchy_schwarz_applies : ltac:(applies @cauchy_schwarz). Proof. found. Qed.
Lemma gram_of_psd_applies : ltac:(applies @gram_of_psd). Proof. found. Qed.
Lemma slopes_along_the_step_applies : ltac:(applies @slopes_along_the_step). Proof. found. Qed.
Lemma margin_slope_is_squared_distance_applies : ltac:(applies @margin_slope_is_squared_distance). Proof. found. Qed.
Lemma chosen_down_rejected_up_never_in_any_space_applies : ltac:(applies @chosen_down_rejected_up_never_in_any_space).
Proof. found. Qed.
Lemma separates_iff_ratio_in_band_applies : ltac:(applies @separates_iff_ratio_in_band). Proof. found. Qed.
Lemma every_ratio_separates_unless_entangled_applies : ltac:(applies @every_ratio_separates_unless_entangled).
Proof. found. Qed.
Lemma band_low_is_cosine_times_norm_ratio_applies : ltac:(applies @band_low_is_cosine_times_norm_ratio).
Proof. found. Qed.
Lemma band_high_is_norm_ratio_over_cosine_applies : ltac:(applies @band_high_is_norm_ratio_over_cosine).
Proof. found. Qed.
Lemma norm_ratio_is_geometric_mean_of_band_applies : ltac:(applies @norm_ratio_is_geometric_mean_of_band).
Proof. found. Qed.
Lemma band_width_is_inverse_squared_cosine_applies : ltac:(applies @band_width_is_inverse_squared_cosine).
Proof. found. Qed.
Lemma band_open_iff_not_parallel_applies : ltac:(applies @band_open_iff_not_parallel). Proof. found. Qed.
Lemma norm_ratio_in_band_iff_not_parallel_applies : ltac:(applies @norm_ratio_in_band_iff_not_parallel).
Proof. found. Qed.

(** ** Softmax *)

Lemma softmax_sum_applies : ltac:(applies @softmax_sum). Proof. found. Qed.
Lemma softmax_is_a_distribution_applies : ltac:(applies @softmax_is_a_distribution). Proof. found. Qed.
Lemma softmax_at_most_one_applies : ltac:(applies @softmax_at_most_one). Proof. found. Qed.
Lemma two_tokens_at_most_one_applies : ltac:(applies @two_tokens_at_most_one). Proof. found. Qed.
Lemma softmax_below_one_applies : ltac:(applies @softmax_below_one). Proof. found. Qed.
Lemma exp_logp_applies : ltac:(applies @exp_logp). Proof. found. Qed.
Lemma ln_softmax_applies : ltac:(applies @ln_softmax). Proof. found. Qed.
Lemma softmax_lt_iff_logp_lt_applies : ltac:(applies @softmax_lt_iff_logp_lt). Proof. found. Qed.
Lemma uniform_softmax_applies : ltac:(applies @uniform_softmax). Proof. found. Qed.
Lemma softmax_of_logarithms_applies : ltac:(applies @softmax_of_logarithms). Proof. found. Qed.
Lemma residual_sum_applies : ltac:(applies @residual_sum). Proof. found. Qed.
Lemma residual_dot_applies : ltac:(applies @residual_dot). Proof. found. Qed.
Lemma residual_dot_same_context_applies : ltac:(applies @residual_dot_same_context). Proof. found. Qed.
Lemma residual_norm_applies : ltac:(applies @residual_norm). Proof. found. Qed.
Lemma residual_dot_vector_applies : ltac:(applies @residual_dot_vector). Proof. found. Qed.
Lemma softmax_shift_applies : ltac:(applies @softmax_shift). Proof. found. Qed.
Lemma softmax_uniform_shift_applies : ltac:(applies @softmax_uniform_shift). Proof. found. Qed.
Lemma lse_shift_lower_applies : ltac:(applies @lse_shift_lower). Proof. found. Qed.
Lemma lse_shift_lower_strict_applies : ltac:(applies @lse_shift_lower_strict). Proof. found. Qed.
Lemma hoeffding_applies : ltac:(applies @hoeffding). Proof. found. Qed.
Lemma lse_shift_upper_applies : ltac:(applies @lse_shift_upper). Proof. found. Qed.
Lemma lse_shift_upper_multiple_applies : ltac:(applies @lse_shift_upper_multiple). Proof. found. Qed.
Lemma lse_constant_shift_applies : ltac:(applies @lse_constant_shift). Proof. found. Qed.
Lemma one_eighth_is_the_best_constant_applies : ltac:(applies @one_eighth_is_the_best_constant). Proof. found. Qed.
Lemma range_zero_iff_constant_applies : ltac:(applies @range_zero_iff_constant). Proof. found. Qed.
Lemma range_below_norm_applies : ltac:(applies @range_below_norm). Proof. found. Qed.
Lemma lse_shift_upper_range_applies : ltac:(applies @lse_shift_upper_range). Proof. found. Qed.

(** ** Slopes *)

Lemma linear_softmax_gradient_applies : ltac:(applies @linear_softmax_gradient). Proof. found. Qed.
Lemma gradient_entry_is_partial_derivative_applies : ltac:(applies @gradient_entry_is_partial_derivative).
Proof. found. Qed.
Lemma pair_slopes_are_derivatives_applies : ltac:(applies @pair_slopes_are_derivatives). Proof. found. Qed.

(** ** Entanglement *)

Lemma linear_softmax_kernel_applies : ltac:(applies @linear_softmax_kernel). Proof. found. Qed.
Lemma token_gram_in_probabilities_applies : ltac:(applies @token_gram_in_probabilities). Proof. found. Qed.
Lemma orthogonal_features_do_not_entangle_applies : ltac:(applies @orthogonal_features_do_not_entangle).
Proof. found. Qed.

(** ** SingleToken *)

Lemma gaps_positive_applies : ltac:(applies @gaps_positive). Proof. found. Qed.
Lemma equal_weights_separate_applies : ltac:(applies @equal_weights_separate). Proof. found. Qed.
Lemma equal_weights_separate_softmax_applies : ltac:(applies @equal_weights_separate_softmax). Proof. found. Qed.
Lemma inner_product_negative_iff_applies : ltac:(applies @inner_product_negative_iff). Proof. found. Qed.
Lemma two_tokens_parallel_applies : ltac:(applies @two_tokens_parallel). Proof. found. Qed.
Lemma two_tokens_cosine_applies : ltac:(applies @two_tokens_cosine). Proof. found. Qed.
Lemma uniform_cosine_applies : ltac:(applies @uniform_cosine). Proof. found. Qed.
Lemma cosine_negative_iff_applies : ltac:(applies @cosine_negative_iff). Proof. found. Qed.
Lemma squared_norm_below_pair_applies : ltac:(applies @squared_norm_below_pair). Proof. found. Qed.
Lemma cosine_negative_if_pair_outweighs_applies : ltac:(applies @cosine_negative_if_pair_outweighs). Proof. found. Qed.
Lemma two_token_vocabulary_cosine_applies : ltac:(applies @two_token_vocabulary_cosine). Proof. found. Qed.
Lemma uniform_vocabulary_cosine_applies : ltac:(applies @uniform_vocabulary_cosine). Proof. found. Qed.
Lemma contexts_without_shared_features_applies : ltac:(applies @contexts_without_shared_features). Proof. found. Qed.

(** ** Overlap *)

Lemma overlap_law_applies : ltac:(applies @overlap_law). Proof. found. Qed.
Lemma increment_positive_applies : ltac:(applies @increment_positive). Proof. found. Qed.
Lemma cosine_tends_to_one_applies : ltac:(applies @cosine_tends_to_one). Proof. found. Qed.
Lemma contexts_once_never_displace_applies : ltac:(applies @contexts_once_never_displace). Proof. found. Qed.

(** ** Suffix *)

Lemma shared_token_bound_applies : ltac:(applies @shared_token_bound). Proof. found. Qed.
Lemma shared_token_bound_reached_iff_applies : ltac:(applies @shared_token_bound_reached_iff). Proof. found. Qed.
Lemma aligned_slopes_applies : ltac:(applies @aligned_slopes). Proof. found. Qed.
Lemma suffix_position_slopes_applies : ltac:(applies @suffix_position_slopes). Proof. found. Qed.
Lemma peaked_suffix_slopes_applies : ltac:(applies @peaked_suffix_slopes). Proof. found. Qed.
Lemma peaked_suffix_signs_applies : ltac:(applies @peaked_suffix_signs). Proof. found. Qed.
Lemma suffix_lowers_both_applies : ltac:(applies @suffix_lowers_both). Proof. found. Qed.
Lemma suffix_raises_both_applies : ltac:(applies @suffix_raises_both). Proof. found. Qed.
Lemma peaked_probabilities_satisfy_it_applies : ltac:(applies @peaked_probabilities_satisfy_it). Proof. found. Qed.

(** ** FiniteStep *)

Lemma slope_is_derivative_applies : ltac:(applies @slope_is_derivative). Proof. found. Qed.
Lemma change_at_most_slope_applies : ltac:(applies @change_at_most_slope). Proof. found. Qed.
Lemma change_at_least_applies : ltac:(applies @change_at_least). Proof. found. Qed.
Lemma curvature_below_norm_applies : ltac:(applies @curvature_below_norm). Proof. found. Qed.
Lemma change_at_least_by_norm_applies : ltac:(applies @change_at_least_by_norm). Proof. found. Qed.
Lemma nonpositive_slope_never_rises_applies : ltac:(applies @nonpositive_slope_never_rises). Proof. found. Qed.
Lemma falls_at_every_step_size_applies : ltac:(applies @falls_at_every_step_size). Proof. found. Qed.
Lemma logprob_is_concave_applies : ltac:(applies @logprob_is_concave). Proof. found. Qed.
Lemma no_learning_rate_repairs_it_applies : ltac:(applies @no_learning_rate_repairs_it). Proof. found. Qed.
Lemma rejected_falls_at_every_learning_rate_applies : ltac:(applies @rejected_falls_at_every_learning_rate).
Proof. found. Qed.
Lemma a_pair_that_loses_the_chosen_applies : ltac:(applies @a_pair_that_loses_the_chosen). Proof. found. Qed.

(** ** Squeezing *)

Lemma ascent_direction_is_gradient_of_loss_applies : ltac:(applies @ascent_direction_is_gradient_of_loss).
Proof. found. Qed.
Lemma token_falls_applies : ltac:(applies @token_falls). Proof. found. Qed.
Lemma squeezing_applies : ltac:(applies @squeezing). Proof. found. Qed.
Lemma small_tokens_exist_applies : ltac:(applies @small_tokens_exist). Proof. found. Qed.
Lemma linear_softmax_ascent_applies : ltac:(applies @linear_softmax_ascent). Proof. found. Qed.

(** ** Mass *)

Lemma token_slope_is_derivative_applies : ltac:(applies @token_slope_is_derivative). Proof. found. Qed.
Lemma slope_of_other_token_applies : ltac:(applies @slope_of_other_token). Proof. found. Qed.
Lemma mass_goes_where_the_row_leans_applies : ltac:(applies @mass_goes_where_the_row_leans). Proof. found. Qed.
Lemma slope_of_chosen_applies : ltac:(applies @slope_of_chosen). Proof. found. Qed.
Lemma slope_of_rejected_applies : ltac:(applies @slope_of_rejected). Proof. found. Qed.
Lemma slope_of_margin_applies : ltac:(applies @slope_of_margin). Proof. found. Qed.
Lemma head_slope_of_chosen_applies : ltac:(applies @head_slope_of_chosen). Proof. found. Qed.
Lemma head_alone_raises_chosen_applies : ltac:(applies @head_alone_raises_chosen). Proof. found. Qed.
Lemma chosen_slope_is_minus_ches_applies : ltac:(applies @chosen_slope_is_minus_ches). Proof. found. Qed.
Lemma repeated_token_residuals_agree_applies : ltac:(applies @repeated_token_residuals_agree). Proof. found. Qed.

(** ** Flow *)

Lemma log_ratio_rises_by_twice_u_applies : ltac:(applies @log_ratio_rises_by_twice_u). Proof. found. Qed.
Lemma chosen_rises_and_rejected_falls_applies : ltac:(applies @chosen_rises_and_rejected_falls). Proof. found. Qed.
Lemma dpo_path_obeys_implicit_equation_applies : ltac:(applies @dpo_path_obeys_implicit_equation). Proof. found. Qed.
Lemma implicit_equation_has_one_solution_applies : ltac:(applies @implicit_equation_has_one_solution).
Proof. found. Qed.
Lemma dpo_path_solves_its_equation_applies : ltac:(applies @dpo_path_solves_its_equation). Proof. found. Qed.
Lemma dpo_path_beyond_iff_applies : ltac:(applies @dpo_path_beyond_iff). Proof. found. Qed.
Lemma dpo_path_increases_applies : ltac:(applies @dpo_path_increases). Proof. found. Qed.
Lemma dpo_path_below_its_first_slope_applies : ltac:(applies @dpo_path_below_its_first_slope). Proof. found. Qed.
Lemma dpo_path_has_no_bound_applies : ltac:(applies @dpo_path_has_no_bound). Proof. found. Qed.
Lemma dpo_path_like_a_logarithm_applies : ltac:(applies @dpo_path_like_a_logarithm). Proof. found. Qed.
Lemma dpo_path_begins_with_the_margin_slope_applies : ltac:(applies @dpo_path_begins_with_the_margin_slope).
Proof. found. Qed.
Lemma dpo_flow_exists_applies : ltac:(applies @dpo_flow_exists). Proof. found. Qed.
Lemma other_references_start_with_another_velocity_applies : ltac:(applies @other_references_start_with_another_velocity).
Proof. found. Qed.
Lemma ipo_path_solves_its_equation_applies : ltac:(applies @ipo_path_solves_its_equation). Proof. found. Qed.
Lemma ipo_path_increases_applies : ltac:(applies @ipo_path_increases). Proof. found. Qed.
Lemma ipo_margin_to_target_applies : ltac:(applies @ipo_margin_to_target). Proof. found. Qed.
Lemma ipo_margin_stays_below_target_applies : ltac:(applies @ipo_margin_stays_below_target). Proof. found. Qed.
Lemma ipo_margin_tends_to_target_applies : ltac:(applies @ipo_margin_tends_to_target). Proof. found. Qed.
Lemma ipo_path_begins_with_the_margin_slope_applies : ltac:(applies @ipo_path_begins_with_the_margin_slope).
Proof. found. Qed.
Lemma ipo_flow_exists_applies : ltac:(applies @ipo_flow_exists). Proof. found. Qed.

(** ** Groups *)

Lemma slopes_are_gram_times_weights_applies : ltac:(applies @slopes_are_gram_times_weights). Proof. found. Qed.
Lemma weighted_slopes_are_squared_step_applies : ltac:(applies @weighted_slopes_are_squared_step). Proof. found. Qed.
Lemma weighted_slopes_never_negative_applies : ltac:(applies @weighted_slopes_never_negative). Proof. found. Qed.
Lemma pair_is_a_group_of_two_applies : ltac:(applies @pair_is_a_group_of_two). Proof. found. Qed.
Lemma pair_margin_from_the_group_applies : ltac:(applies @pair_margin_from_the_group). Proof. found. Qed.
Lemma pair_never_reversed_from_the_group_applies : ltac:(applies @pair_never_reversed_from_the_group).
Proof. found. Qed.
Lemma batch_is_a_group_applies : ltac:(applies @batch_is_a_group). Proof. found. Qed.
Lemma batch_weighted_slopes_applies : ltac:(applies @batch_weighted_slopes). Proof. found. Qed.
Lemma batch_margins_are_squared_step_applies : ltac:(applies @batch_margins_are_squared_step). Proof. found. Qed.
Lemma batch_margins_never_fall_applies : ltac:(applies @batch_margins_never_fall). Proof. found. Qed.
Lemma batch_never_all_reversed_applies : ltac:(applies @batch_never_all_reversed). Proof. found. Qed.

(** ** Remedies *)

Lemma normalised_chosen_slope_applies : ltac:(applies @normalised_chosen_slope). Proof. found. Qed.
Lemma normalised_rejected_slope_applies : ltac:(applies @normalised_rejected_slope). Proof. found. Qed.
Lemma cosine_at_most_one_applies : ltac:(applies @cosine_at_most_one). Proof. found. Qed.
Lemma normalised_pair_never_displaces_applies : ltac:(applies @normalised_pair_never_displaces). Proof. found. Qed.
Lemma normalised_pair_separates_iff_applies : ltac:(applies @normalised_pair_separates_iff). Proof. found. Qed.
Lemma normalised_pair_separates_iff_not_parallel_applies : ltac:(applies @normalised_pair_separates_iff_not_parallel).
Proof. found. Qed.
Lemma normalised_ratio_is_norm_ratio_applies : ltac:(applies @normalised_ratio_is_norm_ratio). Proof. found. Qed.
Lemma normalised_pair_separates_iff_centre_in_band_applies : ltac:(applies @normalised_pair_separates_iff_centre_in_band).
Proof. found. Qed.
Lemma only_the_norm_ratio_is_safe_at_every_cosine_applies : ltac:(applies @only_the_norm_ratio_is_safe_at_every_cosine).
Proof. found. Qed.
Lemma balanced_weights_keep_the_product_applies : ltac:(applies @balanced_weights_keep_the_product). Proof. found. Qed.
Lemma balanced_weights_have_the_norm_ratio_applies : ltac:(applies @balanced_weights_have_the_norm_ratio).
Proof. found. Qed.
Lemma balanced_weights_separate_iff_applies : ltac:(applies @balanced_weights_separate_iff). Proof. found. Qed.
Lemma masked_gradients_have_masked_gram_applies : ltac:(applies @masked_gradients_have_masked_gram). Proof. found. Qed.
Lemma mask_keeping_one_token_each_applies : ltac:(applies @mask_keeping_one_token_each). Proof. found. Qed.
Lemma masked_gradient_is_the_gradient_applies : ltac:(applies @masked_gradient_is_the_gradient). Proof. found. Qed.
Lemma contrast_token_alone_is_single_token_applies : ltac:(applies @contrast_token_alone_is_single_token).
Proof. found. Qed.
Lemma likelihood_separates_iff_applies : ltac:(applies @likelihood_separates_iff). Proof. found. Qed.
Lemma likelihood_separates_iff_unless_entangled_applies : ltac:(applies @likelihood_separates_iff_unless_entangled).
Proof. found. Qed.
Lemma window_length_by_cosine_applies : ltac:(applies @window_length_by_cosine). Proof. found. Qed.
Lemma window_open_iff_not_parallel_applies : ltac:(applies @window_open_iff_not_parallel). Proof. found. Qed.
Lemma no_likelihood_term_helps_applies : ltac:(applies @no_likelihood_term_helps). Proof. found. Qed.
Lemma both_rise_already_applies : ltac:(applies @both_rise_already). Proof. found. Qed.
Lemma some_likelihood_term_helps_iff_applies : ltac:(applies @some_likelihood_term_helps_iff). Proof. found. Qed.

(** ** Crowd *)

Lemma batch_that_shares_everything_but_the_label_applies : ltac:(applies @batch_that_shares_everything_but_the_label).
Proof. found. Qed.
Lemma batch_threshold_limit_applies : ltac:(applies @batch_threshold_limit). Proof. found. Qed.

(** ** CommonStep *)

Lemma shortest_point_iff_applies : ltac:(applies @shortest_point_iff). Proof. found. Qed.
Lemma shortest_point_exists_applies : ltac:(applies @shortest_point_exists). Proof. found. Qed.
Lemma gordan_applies : ltac:(applies @gordan). Proof. found. Qed.
Lemma gordan_alternative_applies : ltac:(applies @gordan_alternative). Proof. found. Qed.
Lemma common_direction_exists_iff_applies : ltac:(applies @common_direction_exists_iff). Proof. found. Qed.

(** ** Credit *)

Lemma credit_by_covariances_applies : ltac:(applies @credit_by_covariances). Proof. found. Qed.
Lemma credit_in_a_shared_context_applies : ltac:(applies @credit_in_a_shared_context). Proof. found. Qed.
Lemma shared_token_in_a_shared_context_applies : ltac:(applies @shared_token_in_a_shared_context). Proof. found. Qed.
Lemma shared_token_after_divergence_applies : ltac:(applies @shared_token_after_divergence). Proof. found. Qed.

(** ** Modified *)

Lemma modified_losses_differ_by_the_inner_product_applies : ltac:(applies @modified_losses_differ_by_the_inner_product).
Proof. found. Qed.
Lemma general_quadratic_gradient_applies : ltac:(applies @general_quadratic_gradient). Proof. found. Qed.
Lemma entangled_gradient_is_the_gradient_applies : ltac:(applies @entangled_gradient_is_the_gradient).
Proof. found. Qed.
Lemma split_loss_has_a_flow_applies : ltac:(applies @split_loss_has_a_flow). Proof. found. Qed.

(** ** Fisher *)

Lemma fisher_entries_applies : ltac:(applies @fisher_entries). Proof. found. Qed.
Lemma natural_is_pseudo_solution_applies : ltac:(applies @natural_is_pseudo_solution). Proof. found. Qed.
Lemma fisher_inner_product_applies : ltac:(applies @fisher_inner_product). Proof. found. Qed.
Lemma fisher_signs_applies : ltac:(applies @fisher_signs). Proof. found. Qed.
Lemma fisher_cosine_applies : ltac:(applies @fisher_cosine). Proof. found. Qed.

(** ** Midpoint *)

Ltac flat := intros; first [lra | exact (derivable_pt_lim_const 0 _) | rewrite Rabs_R0; lra].

Lemma slope_times_step_error_applies : ltac:(applies @slope_times_step_error).
Proof. intros k; apply (k (fun _ => 0) (fun _ => 0) (fun _ => 0) 1 0); flat. Qed.

Lemma halved_step_quarters_the_error_applies : ltac:(applies @halved_step_quarters_the_error).
Proof. intros k; apply (k (fun _ => 0) (fun _ => 0) (fun _ => 0) (fun _ => 0) 1 0); flat. Qed.

Lemma slope_carries_applies : ltac:(applies @slope_carries).
Proof.
  intros k; apply (k R Rplus Rmult Rmult (fun _ => 0) 0 0 1 (fun _ => 0) (fun _ => 0) 1 0); try flat.
  intros δ; rewrite Rmult_0_l; flat.
Qed.

Lemma middle_slope_error_applies : ltac:(applies @middle_slope_error).
Proof. intros k; apply (k (fun _ => 0) (fun _ => 0) (fun _ => 0) (fun _ => 0) 0); flat. Qed.

Lemma third_moment_bound_applies : ltac:(applies @third_moment_bound).
Proof. found. Qed.

Lemma logp_change_from_the_middle_applies : ltac:(applies @logp_change_from_the_middle).
Proof. found. Qed.

Lemma remainder_from_the_middle_applies : ltac:(applies @remainder_from_the_middle).
Proof.
  intros k; apply (k 1%nat 1%nat (fun _ _ => 0) (fun _ _ _ => 0) (one_token_text 0)); [| exact 0%nat].
  intros i i_lt; simpl; lia.
Qed.
