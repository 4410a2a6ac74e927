(** * What the theorems apply to

    What is stated.  For claims with hypotheses: that there is something which satisfies them all (see Applies.v).

    Scope.  One example each, as small as it can be: vocabularies of one to three tokens, answers of one or two, vectors
    of the plane.  [found] tries a few values for every variable in turn, and goes back where a hypothesis then fails.

    Name               Meaning
    half               1/2 everywhere
    one_token_text y   the answer of the one token y, after a context with the feature 1 *)

From Toymodel Require Import Applies Sums Condition Softmax Slopes Entanglement SingleToken Overlap Suffix FiniteStep.
From Toymodel Require Import Squeezing Mass Flow Groups Remedies Crowd Account Midpoint CommonStep Credit Modified.
From Toymodel Require Import Fisher.
From Coq Require Import List Reals Lra Psatz Lia.
Local Open Scope R_scope.

Definition half (_ : nat) : R := 1 / 2.
Definition one_token_text (y : nat) : response := Response 1 (fun _ => y) (fun _ _ => 0) (fun _ _ => 1).

Lemma plane : semi_inner_product plane_plus plane_scale plane_ip.
Proof. exact plane_is_such_a_space. Qed.

Lemma first_coordinate : gradient_at plane_plus plane_scale plane_ip fst (0, 0) (1, 0).
Proof.
  intros δ; unfold plane_plus, plane_scale, plane_ip; simpl.
  replace (1 * fst δ + 0 * snd δ) with (fst δ) by ring; apply affine_derivative.
Qed.

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
Lemma chosen_down_rejected_up_never_preconditioned_applies :
  ltac:(applies @chosen_down_rejected_up_never_preconditioned).
Proof.
  intros k; apply (k (R * R)%type plane_plus plane_scale plane_ip (fun v => v) (1, 0) (0, 1) 1 1); first [exact
    plane_form | lra | reflexivity | apply (nonnegative _ _ _ plane_form)].
Qed.
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

Lemma residual_form_applies : ltac:(applies @residual_form).
Proof.
  intros k; exact (k 1%nat 1%nat (fun _ _ _ => 0) (fun _ _ => 0) (fun _ => 0%nat) 0 (fun _ _ => Nat.lt_0_1) (fun _ _ _
    _ => derivable_pt_lim_const 0 0)).
Qed.
Lemma gradient_is_pulled_back_residuals_applies : ltac:(applies @gradient_is_pulled_back_residuals).
Proof.
  intros k; exact (k 1%nat 1%nat 1%nat _ (fun _ => 0) _ (fun _ => 0%nat) (fun _ _ => Nat.lt_0_1) (unigram_has_jacobian
    1 1 _)).
Qed.
Lemma linear_softmax_gradient_applies : ltac:(applies @linear_softmax_gradient). Proof. found. Qed.
Lemma gradient_entry_is_partial_derivative_applies : ltac:(applies @gradient_entry_is_partial_derivative).
Proof. found. Qed.
Lemma slopes_are_derivatives_applies : ltac:(applies @slopes_are_derivatives).
Proof. intros k; exact (k _ _ _ _ _ _ _ _ _ 1 1 plane_form first_coordinate first_coordinate). Qed.
Lemma derivatives_chosen_down_rejected_up_never_applies : ltac:(applies @derivatives_chosen_down_rejected_up_never).
Proof.
  intros k; exact (k _ _ _ _ _ _ _ _ _ 1 1 _ _ plane_form first_coordinate first_coordinate Rlt_0_1 Rlt_0_1
    (first_coordinate _) (first_coordinate _)).
Qed.
Lemma preconditioned_slopes_are_derivatives_applies : ltac:(applies @preconditioned_slopes_are_derivatives).
Proof.
  intros k; exact (k _ _ _ _ (fun v => v) _ _ _ _ _ 1 1 plane_form (fun _ _ => eq_refl) (nonnegative _ _ _ plane_form)
    first_coordinate first_coordinate).
Qed.
Lemma margin_loss_descends_along_the_step_applies : ltac:(applies @margin_loss_descends_along_the_step).
Proof.
  intros k; apply (k (R * R)%type plane_plus plane_scale plane_ip fst fst (0, 0) (1, 0) (1, 0) (0, 0) (fun _ => 0)
    (fun _ => 0) (fun _ => 0) (fun _ => 0) 0 0 0 0); first [exact plane_form | exact first_coordinate | exact
    (derivable_pt_lim_const 0 _) | unfold plane_plus, plane_scale; simpl; f_equal; ring].
Qed.
Lemma model_slopes_are_derivatives_applies : ltac:(applies @model_slopes_are_derivatives).
Proof.
  intros k; exact (k 1%nat 1%nat 1%nat 1%nat _ _ (fun _ => 0) _ _ (fun _ => 0%nat) (fun _ => 0%nat) 1 1 (fun _ _ =>
    Nat.lt_0_1) (fun _ _ => Nat.lt_0_1) (unigram_has_jacobian 1 1 _) (unigram_has_jacobian 1 1 _)).
Qed.
Lemma pair_slopes_are_derivatives_applies : ltac:(applies @pair_slopes_are_derivatives). Proof. found. Qed.

(** ** Entanglement *)

Lemma derivative_along_the_other_gradient_applies : ltac:(applies @derivative_along_the_other_gradient).
Proof.
  intros k; exact (k 1%nat 1%nat 1%nat 1%nat _ (fun θ _ => θ) (fun _ => 0) _ (fun _ => is) (fun _ => 0%nat) (fun _ =>
    0%nat) (fun _ _ => Nat.lt_0_1) (unigram_has_jacobian 1 1 _)).
Qed.
Lemma linear_softmax_kernel_applies : ltac:(applies @linear_softmax_kernel). Proof. found. Qed.
Lemma token_gram_in_probabilities_applies : ltac:(applies @token_gram_in_probabilities). Proof. found. Qed.
Lemma orthogonal_features_do_not_entangle_applies : ltac:(applies @orthogonal_features_do_not_entangle).
Proof. found. Qed.

(** ** SingleToken *)

Lemma residuals_have_single_token_gram_applies : ltac:(applies @residuals_have_single_token_gram).
Proof.
  intros k; apply (k (R * R)%type plane_plus plane_scale plane_ip (1, 0) (0, 1) (1/2, 1/2) 1); first [exact plane_form
    | unfold plane_ip; simpl; ring].
Qed.
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
Lemma one_token_pair_gram_applies : ltac:(applies @one_token_pair_gram).
Proof. intros k; apply (k 2%nat 1%nat (fun _ _ => 0) (fun _ => 0) (fun _ => 1) 0%nat 1%nat); lia. Qed.
Lemma one_differing_token_separates_applies : ltac:(applies @one_differing_token_separates).
Proof.
  intros k; apply (k 2%nat 1%nat (fun _ _ => 0) (fun _ => 0) (fun _ => 1) 0%nat 1%nat) with (weight := 1); first [lia
    | exact 1 | unfold dot; simpl; lra | intros; unfold dot; simpl; ring | lra].
Qed.
Lemma one_differing_token_cosine_negative_iff_applies : ltac:(applies @one_differing_token_cosine_negative_iff).
Proof.
  intros k; apply (k 2%nat 1%nat (fun _ _ => 0) (fun _ => 0) (fun _ => 1) 0%nat 1%nat); first [lia | exact 1 | unfold
    dot; simpl; lra | intros; unfold dot; simpl; ring | lra].
Qed.
Lemma one_differing_token_cosine_negative_if_pair_outweighs_applies :
  ltac:(applies @one_differing_token_cosine_negative_if_pair_outweighs).
Proof.
  intros k; apply (k 2%nat 1%nat (fun _ _ => 0) (fun _ => 0) (fun _ => 1) 0%nat 1%nat); [lia | lia | lia | unfold dot;
    simpl; lra | intros [|[|v]] v_lt; [| | lia]]; match goal with |- _ <= softmax ?V ?z _ + _ => pose proof
    (softmax_pos V z 0 ltac:(lia)); pose proof (softmax_pos V z 1 ltac:(lia)); lra end.
Qed.
Lemma one_differing_token_of_two_cosine_applies : ltac:(applies @one_differing_token_of_two_cosine).
Proof.
  intros k; apply (k 2%nat 1%nat (fun _ _ => 0) (fun _ => 0) (fun _ => 1) 0%nat 1%nat); first [lia | exact 1 | unfold
    dot; simpl; lra | intros; unfold dot; simpl; ring | lra].
Qed.
Lemma one_differing_token_uniform_cosine_applies : ltac:(applies @one_differing_token_uniform_cosine).
Proof.
  intros k; apply (k 2%nat 1%nat (fun _ _ => 0) (fun _ => 0) (fun _ => 1) 0%nat 1%nat) with (c := 0); first [lia |
    exact 1 | unfold dot; simpl; lra | intros; unfold dot; simpl; ring | lra].
Qed.
Lemma contexts_without_shared_features_applies : ltac:(applies @contexts_without_shared_features). Proof. found. Qed.

(** ** Overlap *)

Lemma overlap_law_applies : ltac:(applies @overlap_law). Proof. found. Qed.
Lemma uniform_positional_inner_applies : ltac:(applies @uniform_positional_inner).
Proof.
  intros k; apply (k 2%nat (fun _ _ => 0) ltac:(lia) (zero_table_uniform 2) 1%nat (fun _ => 0%nat) (fun _ => 1%nat));
    lia.
Qed.
Lemma uniform_positional_squared_norm_applies : ltac:(applies @uniform_positional_squared_norm).
Proof. intros k; apply (k 2%nat (fun _ _ => 0) ltac:(lia) (zero_table_uniform 2) 1%nat (fun _ => 0%nat)); lia. Qed.
Lemma uniform_positional_cosine_applies : ltac:(applies @uniform_positional_cosine).
Proof.
  intros k; apply (k 2%nat (fun _ _ => 0) ltac:(lia) (zero_table_uniform 2) 1%nat (fun _ => 0%nat) (fun _ => 1%nat));
    lia.
Qed.
Lemma uniform_unigram_inner_applies : ltac:(applies @uniform_unigram_inner).
Proof.
  intros k; apply (k 2%nat (fun _ _ => 0) ltac:(lia) (zero_table_uniform 2) 1%nat 2%nat (fun _ => 0%nat) (fun i =>
    i)); intros; lia.
Qed.
Lemma replacement_increment_applies : ltac:(applies @replacement_increment).
Proof.
  intros k; apply (k 2%nat 1%nat (fun _ _ => 0) 1%nat 1%nat (fun _ => 0%nat) (fun _ => 0%nat) (fun _ => 0%nat) (fun _
    => 1%nat)) with (i := 0%nat) (m := 0%nat); first [lia | intros ? ?; simpl; lia].
Qed.
Lemma increment_positive_applies : ltac:(applies @increment_positive). Proof. found. Qed.
Lemma shared_positions_cancel_applies : ltac:(applies @shared_positions_cancel).
Proof.
  intros k; apply (k 2%nat 1%nat (fun _ _ => 0) (fun i => Nat.eqb i 0) (one_token_text 0) (one_token_text 0)); [intros
    [|i] e; [repeat split; simpl; lia | discriminate] | exact 0%nat | exact 0%nat].
Qed.
Lemma shared_positions_add_alike_applies : ltac:(applies @shared_positions_add_alike).
Proof.
  intros k; apply (k 2%nat 1%nat (fun _ _ => 0) (fun i => Nat.eqb i 0) (one_token_text 0) (one_token_text 0)); [intros
    [|i] e; [repeat split; simpl; lia | discriminate] | intros [|i] [|j] a b; try discriminate; split; simpl; intros;
    lia].
Qed.
Lemma shared_positions_norm_applies : ltac:(applies @shared_positions_norm).
Proof.
  intros k; apply (k 2%nat 1%nat (fun _ _ => 0) (fun i => Nat.eqb i 0) (one_token_text 0)); intros [|i] [|j] a b
    differ; (discriminate || contradiction).
Qed.
Lemma shared_positions_change_no_slope_applies : ltac:(applies @shared_positions_change_no_slope).
Proof.
  intros k; apply (k 2%nat 1%nat (fun _ _ => 0) (fun i => Nat.eqb i 0) (one_token_text 0) (one_token_text 0)); [intros
    [|i] e; [repeat split; simpl; lia | discriminate] | intros [|i] [|j] a b; try discriminate; split; simpl; intros;
    lia | exact 1].
Qed.
Lemma shared_positions_shift_both_slopes_applies : ltac:(applies @shared_positions_shift_both_slopes).
Proof.
  intros k; apply (k 2%nat 1%nat (fun _ _ => 0) (fun i => Nat.eqb i 0) (one_token_text 0) (one_token_text 0)); [intros
    [|i] e; [repeat split; simpl; lia | discriminate] | intros [|i] [|j] a b; try discriminate; split; simpl; intros;
    lia | exact 1 | exact 2].
Qed.
Lemma cosine_tends_to_one_applies : ltac:(applies @cosine_tends_to_one). Proof. found. Qed.
Lemma contexts_once_never_displace_applies : ltac:(applies @contexts_once_never_displace). Proof. found. Qed.
Lemma contexts_once_separate_applies : ltac:(applies @contexts_once_separate).
Proof.
  intros k; apply (k 2%nat 1%nat (fun _ _ => 0) 1%nat 1%nat (fun _ => 0%nat) (fun _ => 0%nat) (fun _ => 0%nat) (fun _
    => 1%nat)) with (weight := 1) (i := 0%nat) (j := 0%nat); first [lia | lra | intros ? ?; simpl; lia | intros ? ? ?
    ? ?; lia | intros; lia | simpl; lia].
Qed.
Lemma telling_contexts_separate_applies : ltac:(applies @telling_contexts_separate).
Proof.
  intros k; apply (k 2%nat 1%nat (fun _ _ => 0) 1%nat 1%nat (fun i => i) (fun _ => 0%nat) (fun i => i) (fun _ =>
    1%nat) 1 0%nat); first [lia | lra | intros ? ?; simpl; lia | intros ? ? ? ? ?; lia | intros; lia | simpl; lia].
Qed.
Lemma positional_model_never_displaces_applies : ltac:(applies @positional_model_never_displaces).
Proof.
  intros k; apply (k 2%nat 1%nat (fun _ _ => 0) 1%nat 1%nat (fun _ => 0%nat) (fun _ => 1%nat) 1 0%nat); first [lia |
    lra | intros ? ?; simpl; lia | intros ? ? ? ? ?; lia | intros; lia | simpl; lia].
Qed.
Lemma prefix_model_never_displaces_applies : ltac:(applies @prefix_model_never_displaces).
Proof.
  intros k; apply (k 2%nat 1%nat (fun _ _ => 0) 1%nat 1%nat (fun _ => 0%nat) (fun _ => 1%nat) number_of 1 0%nat);
    first [exact prefixes_can_be_numbered | lia | lra | intros [|i] i_lt; simpl; lia].
Qed.
Lemma prefixes_can_be_numbered_applies : ltac:(applies @prefixes_can_be_numbered).
Proof. intros k; exact (k nil nil eq_refl). Qed.

(** ** Suffix *)

Lemma shared_token_bound_applies : ltac:(applies @shared_token_bound). Proof. found. Qed.
Lemma shared_token_bound_reached_iff_applies : ltac:(applies @shared_token_bound_reached_iff). Proof. found. Qed.
Lemma shared_tokens_entangle_applies : ltac:(applies @shared_tokens_entangle).
Proof.
  intros k; apply (k 2%nat 1%nat (fun _ _ => 0) (one_token_text 0) (one_token_text 0) 0%nat 0%nat 0%nat); first [lia |
    reflexivity | unfold dot; simpl; lra].
Qed.
Lemma contrast_tokens_entry_applies : ltac:(applies @contrast_tokens_entry).
Proof.
  intros k; apply (k 2%nat 1%nat (fun _ _ => 0) (one_token_text 0) (one_token_text 1) 0%nat 0%nat); first [simpl; lia
    | reflexivity].
Qed.
Lemma aligned_slopes_applies : ltac:(applies @aligned_slopes). Proof. found. Qed.
Lemma suffix_position_slopes_applies : ltac:(applies @suffix_position_slopes). Proof. found. Qed.
Lemma contrast_position_slopes_applies : ltac:(applies @contrast_position_slopes).
Proof.
  intros k; apply (k 2%nat 1%nat (fun _ _ => 0) (one_token_text 0) (one_token_text 1) 0%nat); first [simpl; lia |
    reflexivity].
Qed.
Lemma peaked_suffix_slopes_applies : ltac:(applies @peaked_suffix_slopes). Proof. found. Qed.
Lemma peaked_suffix_signs_applies : ltac:(applies @peaked_suffix_signs). Proof. found. Qed.
Lemma suffix_lowers_both_applies : ltac:(applies @suffix_lowers_both). Proof. found. Qed.
Lemma suffix_raises_both_applies : ltac:(applies @suffix_raises_both). Proof. found. Qed.
Lemma peaked_probabilities_satisfy_it_applies : ltac:(applies @peaked_probabilities_satisfy_it). Proof. found. Qed.
Lemma any_suffix_slopes_applies : ltac:(applies @any_suffix_slopes).
Proof.
  intros k; apply (k 3%nat 2%nat (fun _ _ => 0) 1%nat (peaked_text 3 1 2 0 (1/2) is) (peaked_text 3 1 2 1 (1/4) is) 1);
    first [lia | lra | reflexivity | simpl; lia | (intros; simpl; lia) | (repeat split; simpl; auto; intros i m i_lt m_lt
    differ; rewrite dot_is_left, is_different by auto; reflexivity)].
Qed.
Lemma any_suffix_lowers_the_chosen_iff_applies : ltac:(applies @any_suffix_lowers_the_chosen_iff).
Proof.
  intros k; apply (k 3%nat 2%nat (fun _ _ => 0) 1%nat (peaked_text 3 1 2 0 (1/2) is) (peaked_text 3 1 2 1 (1/4) is) 1);
    first [lia | lra | reflexivity | simpl; lia | (intros; simpl; lia) | (repeat split; simpl; auto; intros i m i_lt m_lt
    differ; rewrite dot_is_left, is_different by auto; reflexivity)].
Qed.
Lemma chosen_falls_beyond_threshold_iff_applies : ltac:(applies @chosen_falls_beyond_threshold_iff).
Proof.
  intros k; destruct (peaked_text_probs 3 2 1 2 0 (1/2) is) as [_ after_w]; try lia; try lra; destruct
    (peaked_text_probs 3 2 1 2 1 (1/4) is) as [_ after_l]; try lia; try lra; apply (k 3%nat 2%nat (fun _ _ => 0) 1%nat
    (peaked_text 3 1 2 0 (1/2) is) (peaked_text 3 1 2 1 (1/4) is) 2%nat 1 (1/2) (1/4) 1); first [lia | lra |
    reflexivity | simpl; lia | now auto | intros; now auto | (repeat split; simpl; auto; intros i m i_lt m_lt differ;
    rewrite dot_is_left, is_different by auto; reflexivity) | (intros i i_lt; unfold feature_sq; simpl; rewrite
    dot_is_left, is_same by assumption; reflexivity)].
Qed.
Lemma rejected_falls_at_any_length_applies : ltac:(applies @rejected_falls_at_any_length).
Proof.
  intros k; destruct (peaked_text_probs 3 2 1 2 0 (1/2) is) as [_ after_w]; try lia; try lra; destruct
    (peaked_text_probs 3 2 1 2 1 (1/4) is) as [_ after_l]; try lia; try lra; apply (k 3%nat 2%nat (fun _ _ => 0) 1%nat
    (peaked_text 3 1 2 0 (1/2) is) (peaked_text 3 1 2 1 (1/4) is) 2%nat 1 (1/2) (1/4) 1); first [lia | lra |
    reflexivity | simpl; lia | now auto | intros; now auto | (repeat split; simpl; auto; intros i m i_lt m_lt differ;
    rewrite dot_is_left, is_different by auto; reflexivity) | (intros i i_lt; unfold feature_sq; simpl; rewrite
    dot_is_left, is_same by assumption; reflexivity)].
Qed.
Lemma both_fall_beyond_threshold_iff_applies : ltac:(applies @both_fall_beyond_threshold_iff).
Proof.
  intros k; destruct (peaked_text_probs 3 2 1 2 0 (1/2) is) as [_ after_w]; try lia; try lra; destruct
    (peaked_text_probs 3 2 1 2 1 (1/4) is) as [_ after_l]; try lia; try lra; apply (k 3%nat 2%nat (fun _ _ => 0) 1%nat
    (peaked_text 3 1 2 0 (1/2) is) (peaked_text 3 1 2 1 (1/4) is) 2%nat 1 (1/2) (1/4) 1); first [lia | lra |
    reflexivity | simpl; lia | now auto | intros; now auto | (repeat split; simpl; auto; intros i m i_lt m_lt differ;
    rewrite dot_is_left, is_different by auto; reflexivity) | (intros i i_lt; unfold feature_sq; simpl; rewrite
    dot_is_left, is_same by assumption; reflexivity)].
Qed.
Lemma chosen_rises_at_any_length_applies : ltac:(applies @chosen_rises_at_any_length).
Proof.
  intros k; destruct (peaked_text_probs 3 2 1 2 0 (1/4) is) as [_ after_w]; try lia; try lra; destruct
    (peaked_text_probs 3 2 1 2 1 (1/2) is) as [_ after_l]; try lia; try lra; apply (k 3%nat 2%nat (fun _ _ => 0) 1%nat
    (peaked_text 3 1 2 0 (1/4) is) (peaked_text 3 1 2 1 (1/2) is) 2%nat 1 (1/4) (1/2) 1); first [lia | lra |
    reflexivity | simpl; lia | now auto | intros; now auto | (repeat split; simpl; auto; intros i m i_lt m_lt differ;
    rewrite dot_is_left, is_different by auto; reflexivity) | (intros i i_lt; unfold feature_sq; simpl; rewrite
    dot_is_left, is_same by assumption; reflexivity)].
Qed.
Lemma rejected_rises_beyond_threshold_iff_applies : ltac:(applies @rejected_rises_beyond_threshold_iff).
Proof.
  intros k; destruct (peaked_text_probs 3 2 1 2 0 (1/4) is) as [_ after_w]; try lia; try lra; destruct
    (peaked_text_probs 3 2 1 2 1 (1/2) is) as [_ after_l]; try lia; try lra; apply (k 3%nat 2%nat (fun _ _ => 0) 1%nat
    (peaked_text 3 1 2 0 (1/4) is) (peaked_text 3 1 2 1 (1/2) is) 2%nat 1 (1/4) (1/2) 1); first [lia | lra |
    reflexivity | simpl; lia | now auto | intros; now auto | (repeat split; simpl; auto; intros i m i_lt m_lt differ;
    rewrite dot_is_left, is_different by auto; reflexivity) | (intros i i_lt; unfold feature_sq; simpl; rewrite
    dot_is_left, is_same by assumption; reflexivity)].
Qed.

(** ** FiniteStep *)

Lemma slope_is_derivative_applies : ltac:(applies @slope_is_derivative). Proof. found. Qed.
Lemma change_at_most_slope_applies : ltac:(applies @change_at_most_slope). Proof. found. Qed.
Lemma change_at_least_applies : ltac:(applies @change_at_least). Proof. found. Qed.
Lemma curvature_below_norm_applies : ltac:(applies @curvature_below_norm). Proof. found. Qed.
Lemma change_at_least_by_norm_applies : ltac:(applies @change_at_least_by_norm). Proof. found. Qed.
Lemma nonpositive_slope_never_rises_applies : ltac:(applies @nonpositive_slope_never_rises). Proof. found. Qed.
Lemma negative_slope_falls_applies : ltac:(applies @negative_slope_falls).
Proof.
  intros k; destruct too_large_a_step_overshoots as [rising _]; set (D := fun v (_ : nat) => match v with 0%nat => 1 |
    1%nat => 2 | _ => -6 end) in *; assert (slope 3 1 (fun _ _ => 0) first_of_three (matrix_scale (-1) D) < 0) as
    falling by (unfold slope in *; rewrite (symmetric _ _ _ (matrices_form 3 1)), (homogeneous _ _ _ (matrices_form 3
    1)), (symmetric _ _ _ (matrices_form 3 1)); lra); exact (k 3%nat 1%nat _ first_of_three _ ltac:(intros [|i] i_lt;
    simpl in *; lia) 1 falling Rlt_0_1).
Qed.
Lemma nonpositive_slope_falls_if_moved_applies : ltac:(applies @nonpositive_slope_falls_if_moved).
Proof.
  intros k; destruct too_large_a_step_overshoots as [rising _]; set (D := fun v (_ : nat) => match v with 0%nat => 1 |
    1%nat => 2 | _ => -6 end) in *; assert (slope 3 1 (fun _ _ => 0) first_of_three (matrix_scale (-1) D) < 0) as
    falling by (unfold slope in *; rewrite (symmetric _ _ _ (matrices_form 3 1)), (homogeneous _ _ _ (matrices_form 3
    1)), (symmetric _ _ _ (matrices_form 3 1)); lra); apply (k 3%nat 1%nat (fun _ _ => 0) first_of_three (matrix_scale
    (-1) D) ltac:(intros [|i] i_lt; simpl in *; lia) 1 0%nat 0%nat 1%nat); first [simpl; lia | lra | unfold
    logit_change, matrix_scale, dot, D; simpl; lra].
Qed.
Lemma falls_at_every_step_size_applies : ltac:(applies @falls_at_every_step_size). Proof. found. Qed.
Lemma rises_at_certified_step_sizes_applies : ltac:(applies @rises_at_certified_step_sizes).
Proof.
  intros k; destruct too_large_a_step_overshoots as [rising _]; set (D := fun v (_ : nat) => match v with 0%nat => 1 |
    1%nat => 2 | _ => -6 end) in *; assert (0 < curvature 3 1 first_of_three D) as curved by (unfold curvature; simpl;
    set (u := logit_change 1 D first_of_three 0); assert (u 1%nat - u 2%nat = 8) by (unfold u, logit_change, dot, D;
    simpl; lra); pose proof (largest_bound 3 u 1 ltac:(lia)); pose proof (smallest_bound 3 u 2 ltac:(lia)); unfold
    range; nra); set (s := slope _ _ _ _ _) in rising; apply (k 3%nat 1%nat (fun _ _ => 0) first_of_three D
    ltac:(intros [|i] i_lt; simpl in *; lia) (s / curvature 3 1 first_of_three D / 2)); [exact rising |]; fold s; pose
    proof (Rdiv_lt_0_compat _ _ rising curved); lra.
Qed.
Lemma rises_at_some_step_size_applies : ltac:(applies @rises_at_some_step_size).
Proof.
  intros k; destruct too_large_a_step_overshoots as [rising _]; exact (k 3%nat 1%nat _ first_of_three _ ltac:(intros
    [|i] i_lt; simpl in *; lia) rising).
Qed.
Lemma logprob_is_concave_applies : ltac:(applies @logprob_is_concave). Proof. found. Qed.
Lemma no_learning_rate_repairs_it_applies : ltac:(applies @no_learning_rate_repairs_it). Proof. found. Qed.
Lemma rejected_falls_at_every_learning_rate_applies : ltac:(applies @rejected_falls_at_every_learning_rate).
Proof. found. Qed.
Lemma entangled_pair_loses_the_chosen_applies : ltac:(applies @entangled_pair_loses_the_chosen).
Proof.
  intros k; destruct (a_pair_that_loses_the_chosen 1 Rlt_0_1) as [entries _]; apply (k 2%nat 1%nat (fun _ _ => 0)
    (unigram 3 (fun i => match i with 2%nat => 1%nat | _ => 0%nat end)) (unigram 3 (fun _ => 0%nat)) 1 1) with (η :=
    1); [intros [|[|[|i]]] i_lt; simpl in *; lia | lra | rewrite entries; simpl; lra | lra].
Qed.
Lemma certified_learning_rate_separates_applies : ltac:(applies @certified_learning_rate_separates).
Proof.
  intros k; pose (z := fun _ : nat => 0); pose (φ := fun _ : nat => 1); assert (separates (pair_gram 2 1 (fun _ _ =>
    0) (one_token z φ 0) (one_token z φ 1)) 1 1) as apart by (apply one_differing_token_separates; first [lia | lra |
    unfold dot, φ; simpl; lra]); set (D := pair_step 2 1 (fun _ _ => 0) (one_token z φ 0) (one_token z φ 1) 1 1);
    assert (logit_change 1 D (one_token z φ 0) 0 0 - logit_change 1 D (one_token z φ 0) 0 1 = 2) as moved by (unfold
    D, logit_change, dot, pair_step, combined, matrix_plus, matrix_scale, gradient, residuals, residual, logits, is,
    φ; simpl; ring); assert (0 < curvature 2 1 (one_token z φ 0) D) as curved by (unfold curvature; simpl; set (u :=
    logit_change 1 D (one_token z φ 0) 0) in *; pose proof (largest_bound 2 u 0 ltac:(lia)); pose proof
    (smallest_bound 2 u 1 ltac:(lia)); unfold range; nra); pose proof apart as [rising _]; apply (k 2%nat 1%nat (fun _
    _ => 0) (one_token z φ 0) (one_token z φ 1) 1 1) with (η := chosen_slope (pair_gram 2 1 (fun _ _ => 0) (one_token
    z φ 0) (one_token z φ 1)) 1 1 / curvature 2 1 (one_token z φ 0) D / 2); [intros i i_lt; simpl; lia | intros i
    i_lt; simpl; lia | exact apart |]; fold D; pose proof (Rdiv_lt_0_compat _ _ rising curved); lra.
Qed.
Lemma a_pair_that_loses_the_chosen_applies : ltac:(applies @a_pair_that_loses_the_chosen). Proof. found. Qed.

(** ** Squeezing *)

Lemma ascent_direction_is_gradient_of_loss_applies : ltac:(applies @ascent_direction_is_gradient_of_loss).
Proof. found. Qed.
Lemma token_falls_applies : ltac:(applies @token_falls). Proof. found. Qed.
Lemma largest_other_rises_applies : ltac:(applies @largest_other_rises).
Proof.
  intros k; apply (k 2%nat (fun _ => 0) 0%nat 1%nat 1); [lia | lra | split; [lia | split; [lia |]]]; intros v _ _;
    rewrite !uniform_softmax by lia; lra.
Qed.
Lemma rich_get_richer_applies : ltac:(applies @rich_get_richer).
Proof.
  intros k; apply (k 3%nat INR 0%nat 1%nat 2%nat 1); [lia | lia | lia | lra | apply softmax_lt_iff_logp_lt; [lia |];
    unfold logp; simpl; lra].
Qed.
Lemma largest_other_stays_applies : ltac:(applies @largest_other_stays).
Proof.
  intros k; apply (k 2%nat (fun _ => 0) 0%nat 1%nat 1); [lra | split; [lia | split; [lia |]]]; intros v _ _; rewrite
    !uniform_softmax by lia; lra.
Qed.
Lemma squeezing_applies : ltac:(applies @squeezing). Proof. found. Qed.
Lemma squeezing_goes_on_applies : ltac:(applies @squeezing_goes_on).
Proof.
  intros k; apply (k 2%nat (fun _ => 0) 0%nat 1%nat 1 0%nat); [lia | lra | split; [lia | split; [lia |]]]; intros v _
    _; rewrite !uniform_softmax by lia; lra.
Qed.
Lemma small_token_falls_applies : ltac:(applies @small_token_falls).
Proof.
  intros k; set (p := table_row (1/20) (9/10) (1/20) 0); assert (E : forall v, (v < 3)%nat -> softmax 3 (fun v => ln
    (p v)) v = p v) by (intros; apply softmax_of_logarithms; [intros [|[|[|u]]] u_lt; unfold p; simpl; lra || lia |
    unfold p; simpl; lra | assumption]); apply (k 3%nat (fun v => ln (p v)) 0%nat 2%nat 1); [lia | lia | lia | lra |];
    unfold dot; rewrite (sum_ext 3 _ (fun v => p v * p v)) by (intros; now rewrite E); rewrite !E by lia; unfold p;
    simpl; lra.
Qed.
Lemma small_tokens_exist_applies : ltac:(applies @small_tokens_exist). Proof. found. Qed.
Lemma linear_softmax_ascent_applies : ltac:(applies @linear_softmax_ascent). Proof. found. Qed.
Lemma linear_softmax_squeezing_applies : ltac:(applies @linear_softmax_squeezing).
Proof.
  intros k; apply (k 2%nat 1%nat (fun _ _ => 0) (one_token_text 0) 1); first [intros i i_lt; simpl; lia | lia | lra |
    reflexivity | unfold dot; simpl; lra].
Qed.

(** ** Mass *)

Lemma token_gradient_is_gradient_applies : ltac:(applies @token_gradient_is_gradient).
Proof. intros k; exact (k 1%nat 1%nat (fun _ _ => 0, fun _ => 0) 0%nat Nat.lt_0_1). Qed.
Lemma token_slope_is_derivative_applies : ltac:(applies @token_slope_is_derivative). Proof. found. Qed.
Lemma slope_of_other_token_applies : ltac:(applies @slope_of_other_token). Proof. found. Qed.
Lemma mass_goes_where_the_row_leans_applies : ltac:(applies @mass_goes_where_the_row_leans). Proof. found. Qed.
Lemma slope_of_chosen_applies : ltac:(applies @slope_of_chosen). Proof. found. Qed.
Lemma slope_of_rejected_applies : ltac:(applies @slope_of_rejected). Proof. found. Qed.
Lemma slope_of_margin_applies : ltac:(applies @slope_of_margin). Proof. found. Qed.
Lemma head_slope_of_chosen_applies : ltac:(applies @head_slope_of_chosen). Proof. found. Qed.
Lemma head_alone_raises_chosen_applies : ltac:(applies @head_alone_raises_chosen). Proof. found. Qed.
Lemma chosen_slope_is_minus_ches_applies : ltac:(applies @chosen_slope_is_minus_ches). Proof. found. Qed.
Lemma chosen_falls_iff_ches_positive_applies : ltac:(applies @chosen_falls_iff_ches_positive).
Proof.
  intros k; apply (k 2%nat 1%nat (fun _ _ => 0) (one_token_text 0) (one_token_text 0) (1 - 1 / INR 2) 1); [intros i j
    _ _; apply (repeated_token_residuals_agree 2 1 1 0); lia | intros i j _ _; apply (repeated_token_residuals_agree 2
    1 1 0); lia | simpl; lra | lra].
Qed.
Lemma repeated_token_residuals_agree_applies : ltac:(applies @repeated_token_residuals_agree). Proof. found. Qed.

(** ** Flow *)

Lemma loss_gradient_is_the_gradient_applies : ltac:(applies @loss_gradient_is_the_gradient).
Proof.
  intros k; apply (k (fun _ => 0) (fun _ => 0) 2%nat 1%nat (one_token_text 0) (one_token_text 1) (fun _ _ => 0) 0);
    [intros i i_lt; simpl; lia | intros i i_lt; simpl; lia | exact (derivable_pt_lim_const 0 _)].
Qed.
Lemma flow_moves_two_logits_applies : ltac:(applies @flow_moves_two_logits).
Proof.
  intros k; destruct (dpo_flow_exists 1 2 1 (fun _ => 0) (fun _ => 1) 0 1 ltac:(lia) ltac:(lra) (fun _ _ => 0)) as (W
    & _ & flow); [unfold dot; simpl; lra |]; apply (k (dpo_slope 1) 2%nat 1%nat (fun _ => 0) (fun _ => 1) 0%nat 1%nat
    ltac:(lia) ltac:(lia) ltac:(lia) W) with (t := 1); first [exact flow | lia | lra | unfold dot; simpl; lra].
Qed.
Lemma solution_gives_a_flow_applies : ltac:(applies @solution_gives_a_flow).
Proof.
  intros k; apply (k (fun _ => 0) 2%nat 1%nat (fun _ => 0) (fun _ => 1) 0%nat 1%nat ltac:(lia) (fun _ _ => 0) (fun _
    => 0)); [unfold dot; simpl; lra | reflexivity | intros; rewrite Rmult_0_r, Ropp_0; exact (derivable_pt_lim_const 0
    _)].
Qed.
Lemma log_ratio_rises_by_twice_u_applies : ltac:(applies @log_ratio_rises_by_twice_u). Proof. found. Qed.
Lemma chosen_rises_and_rejected_falls_applies : ltac:(applies @chosen_rises_and_rejected_falls). Proof. found. Qed.
Lemma dpo_solution_obeys_implicit_equation_applies : ltac:(applies @dpo_solution_obeys_implicit_equation).
Proof.
  intros k; apply (k 1 1 (dpo_path 1 1)) with (t := 1); [apply dpo_path_starts_at_zero | intros; apply
    dpo_path_solves_its_equation; lra | lra].
Qed.
Lemma dpo_path_obeys_implicit_equation_applies : ltac:(applies @dpo_path_obeys_implicit_equation). Proof. found. Qed.
Lemma implicit_equation_has_one_solution_applies : ltac:(applies @implicit_equation_has_one_solution).
Proof. found. Qed.
Lemma dpo_path_solves_its_equation_applies : ltac:(applies @dpo_path_solves_its_equation). Proof. found. Qed.
Lemma dpo_path_is_the_only_solution_applies : ltac:(applies @dpo_path_is_the_only_solution).
Proof.
  intros k; apply (k 1 1 (dpo_path 1 1)) with (t := 1); [lra | apply dpo_path_starts_at_zero | intros; apply
    dpo_path_solves_its_equation; lra | lra].
Qed.
Lemma dpo_path_by_lambert_applies : ltac:(applies @dpo_path_by_lambert).
Proof. intros k; destruct lambert_function_exists as [lambert solves]; exact (k lambert 1 1 1 solves Rlt_0_1). Qed.
Lemma dpo_path_beyond_iff_applies : ltac:(applies @dpo_path_beyond_iff). Proof. found. Qed.
Lemma dpo_path_increases_applies : ltac:(applies @dpo_path_increases). Proof. found. Qed.
Lemma dpo_path_below_its_first_slope_applies : ltac:(applies @dpo_path_below_its_first_slope). Proof. found. Qed.
Lemma dpo_path_has_no_bound_applies : ltac:(applies @dpo_path_has_no_bound). Proof. found. Qed.
Lemma dpo_path_like_a_logarithm_applies : ltac:(applies @dpo_path_like_a_logarithm). Proof. found. Qed.
Lemma dpo_path_begins_with_the_margin_slope_applies : ltac:(applies @dpo_path_begins_with_the_margin_slope).
Proof. found. Qed.
Lemma dpo_flow_follows_the_path_applies : ltac:(applies @dpo_flow_follows_the_path).
Proof.
  intros k; destruct (dpo_flow_exists 1 2 1 (fun _ => 0) (fun _ => 1) 0 1 ltac:(lia) ltac:(lra) (fun _ _ => 0)) as (W
    & _ & flow); [unfold dot; simpl; lra |]; apply (k 1 2%nat 1%nat (fun _ => 0) (fun _ => 1) 0%nat 1%nat ltac:(lia)
    ltac:(lia) ltac:(lia) ltac:(lra) W 1 0%nat); first [exact flow | lia | lra | unfold dot; simpl; lra].
Qed.
Lemma dpo_flow_raises_the_log_ratio_by_twice_u_applies : ltac:(applies @dpo_flow_raises_the_log_ratio_by_twice_u).
Proof.
  intros k; destruct (dpo_flow_exists 1 2 1 (fun _ => 0) (fun _ => 1) 0 1 ltac:(lia) ltac:(lra) (fun _ _ => 0)) as (W
    & _ & flow); [unfold dot; simpl; lra |]; apply (k 1 2%nat 1%nat (fun _ => 0) (fun _ => 1) 0%nat 1%nat ltac:(lia)
    ltac:(lia) ltac:(lia) ltac:(lra) W 1); first [exact flow | lia | lra | unfold dot; simpl; lra].
Qed.
Lemma dpo_flow_separates_for_ever_applies : ltac:(applies @dpo_flow_separates_for_ever).
Proof.
  intros k; destruct (dpo_flow_exists 1 2 1 (fun _ => 0) (fun _ => 1) 0 1 ltac:(lia) ltac:(lra) (fun _ _ => 0)) as (W
    & _ & flow); [unfold dot; simpl; lra |]; apply (k 1 2%nat 1%nat (fun _ => 0) (fun _ => 1) 0%nat 1%nat ltac:(lia)
    ltac:(lia) ltac:(lia) ltac:(lra) W 1 2); first [exact flow | lia | lra | unfold dot; simpl; lra].
Qed.
Lemma dpo_flow_exists_applies : ltac:(applies @dpo_flow_exists). Proof. found. Qed.
Lemma other_references_start_with_another_velocity_applies :
  ltac:(applies @other_references_start_with_another_velocity).
Proof. found. Qed.
Lemma ipo_path_solves_its_equation_applies : ltac:(applies @ipo_path_solves_its_equation). Proof. found. Qed.
Lemma ipo_path_is_the_only_solution_applies : ltac:(applies @ipo_path_is_the_only_solution).
Proof.
  intros k; apply (k 1 1 (ipo_path 1 1)) with (t := 1); [lra | apply ipo_path_starts_at_zero | intros; apply
    ipo_path_solves_its_equation; lra | lra].
Qed.
Lemma ipo_path_increases_applies : ltac:(applies @ipo_path_increases). Proof. found. Qed.
Lemma ipo_margin_to_target_applies : ltac:(applies @ipo_margin_to_target). Proof. found. Qed.
Lemma ipo_margin_stays_below_target_applies : ltac:(applies @ipo_margin_stays_below_target). Proof. found. Qed.
Lemma ipo_margin_tends_to_target_applies : ltac:(applies @ipo_margin_tends_to_target). Proof. found. Qed.
Lemma ipo_path_begins_with_the_margin_slope_applies : ltac:(applies @ipo_path_begins_with_the_margin_slope).
Proof. found. Qed.
Lemma ipo_flow_follows_the_path_applies : ltac:(applies @ipo_flow_follows_the_path).
Proof.
  intros k; destruct (ipo_flow_exists 1 2 1 (fun _ => 0) (fun _ => 1) 0 1 ltac:(lia) ltac:(lra) (fun _ _ => 0)) as (W
    & _ & flow); [unfold dot; simpl; lra |]; apply (k 1 2%nat 1%nat (fun _ => 0) (fun _ => 1) 0%nat 1%nat ltac:(lia)
    ltac:(lia) ltac:(lia) ltac:(lra) W 1 0%nat); first [exact flow | lia | lra | unfold dot; simpl; lra].
Qed.
Lemma ipo_flow_raises_the_log_ratio_by_twice_u_applies : ltac:(applies @ipo_flow_raises_the_log_ratio_by_twice_u).
Proof.
  intros k; destruct (ipo_flow_exists 1 2 1 (fun _ => 0) (fun _ => 1) 0 1 ltac:(lia) ltac:(lra) (fun _ _ => 0)) as (W
    & _ & flow); [unfold dot; simpl; lra |]; apply (k 1 2%nat 1%nat (fun _ => 0) (fun _ => 1) 0%nat 1%nat ltac:(lia)
    ltac:(lia) ltac:(lia) ltac:(lra) W 1); first [exact flow | lia | lra | unfold dot; simpl; lra].
Qed.
Lemma ipo_flow_separates_for_ever_applies : ltac:(applies @ipo_flow_separates_for_ever).
Proof.
  intros k; destruct (ipo_flow_exists 1 2 1 (fun _ => 0) (fun _ => 1) 0 1 ltac:(lia) ltac:(lra) (fun _ _ => 0)) as (W
    & _ & flow); [unfold dot; simpl; lra |]; apply (k 1 2%nat 1%nat (fun _ => 0) (fun _ => 1) 0%nat 1%nat ltac:(lia)
    ltac:(lia) ltac:(lia) ltac:(lra) W 1 2); first [exact flow | lia | lra | unfold dot; simpl; lra].
Qed.
Lemma ipo_flow_exists_applies : ltac:(applies @ipo_flow_exists). Proof. found. Qed.

Definition answer (y : nat -> nat) : response := Response 2 y (fun _ _ => 0) (fun _ _ => 1).

Lemma flow_of_longer_answers (slope : R -> R) (W : R -> nat -> nat -> R) :
  gradient_flow slope 2 1 (one_token (fun _ => 0) (fun _ => 1) 0) (one_token (fun _ => 0) (fun _ => 1) 1) W ->
  gradient_flow slope 2 1 (answer (fun i => i)) (answer (fun _ => 1%nat)) W.
Proof.
  intros flow; apply (shared_tokens_leave_the_flow 2 1 0 (answer (fun i => i)) (answer (fun _ => 1%nat)));
    [simpl; lia | reflexivity | split; reflexivity | intros [|[|i]] i_lt differ; simpl in *; lia
    | exact flow].
Qed.

Lemma shared_tokens_leave_the_flow_applies : ltac:(applies @shared_tokens_leave_the_flow).
Proof.
  intros k; apply (k 2%nat 1%nat 0%nat (answer (fun i => i)) (answer (fun _ => 1%nat)));
    [simpl; lia | reflexivity | split; reflexivity | intros [|[|i]] i_lt differ; simpl in *; lia | |].
  - exact (fun _ => 0).
  - exact (fun _ _ _ => 0).
Qed.

Lemma dpo_flow_of_longer_answers_applies : ltac:(applies @dpo_flow_of_longer_answers).
Proof.
  destruct (dpo_flow_exists 1 2 1 (fun _ => 0) (fun _ => 1) 0 1 ltac:(lia) ltac:(lra) (fun _ _ => 0)) as (W & _ & flow);
    [unfold dot; simpl; lra |].
  intros k; apply (k 2%nat 1%nat 0%nat (answer (fun i => i)) (answer (fun _ => 1%nat))) with (β := 1) (W := W) (t := 1);
    [simpl; lia | reflexivity | split; reflexivity | intros [|[|i]] i_lt differ; simpl in *; lia | simpl; lia
    | simpl; lia | simpl; lia | lra | now apply flow_of_longer_answers | lra].
Qed.

Lemma ipo_flow_of_longer_answers_applies : ltac:(applies @ipo_flow_of_longer_answers).
Proof.
  destruct (ipo_flow_exists 1 2 1 (fun _ => 0) (fun _ => 1) 0 1 ltac:(lia) ltac:(lra) (fun _ _ => 0)) as (W & _ & flow);
    [unfold dot; simpl; lra |].
  intros k; apply (k 2%nat 1%nat 0%nat (answer (fun i => i)) (answer (fun _ => 1%nat))) with (τ := 1) (W := W) (t := 1);
    [simpl; lia | reflexivity | split; reflexivity | intros [|[|i]] i_lt differ; simpl in *; lia | simpl; lia
    | simpl; lia | simpl; lia | lra | now apply flow_of_longer_answers | lra].
Qed.

(** ** Groups *)

Lemma wrong_way_only_beside_right_way_applies : ltac:(applies @wrong_way_only_beside_right_way).
Proof.
  intros k; apply (k 2%nat (fun i j => match i, j with O, O => 1 | S O, S O => 9 | _, _ => 2 end) (fun i => match i
    with O => 1 | _ => -1 end) 0%nat); [unfold weighted_slopes, group_slope; simpl; lra | lia | unfold group_slope;
    simpl; lra].
Qed.
Lemma never_all_the_wrong_way_applies : ltac:(applies @never_all_the_wrong_way).
Proof.
  intros k; apply (k 1%nat (fun _ _ => 1) (fun _ => 1)); [unfold weighted_slopes, group_slope; simpl; lra | exists
    0%nat; split; [lia | lra]].
Qed.
Lemma falls_only_if_entangled_with_a_lowered_one_applies : ltac:(applies @falls_only_if_entangled_with_a_lowered_one).
Proof.
  intros k; apply (k 1%nat (fun _ _ => 1) (fun _ => -1) 0%nat); [intros; lra | unfold group_slope; simpl; lra].
Qed.
Lemma slopes_are_gram_times_weights_applies : ltac:(applies @slopes_are_gram_times_weights). Proof. found. Qed.
Lemma weighted_slopes_are_squared_step_applies : ltac:(applies @weighted_slopes_are_squared_step). Proof. found. Qed.
Lemma weighted_slopes_never_negative_applies : ltac:(applies @weighted_slopes_never_negative). Proof. found. Qed.
Lemma group_never_all_the_wrong_way_applies : ltac:(applies @group_never_all_the_wrong_way).
Proof.
  intros k; apply (k (R * R)%type plane_plus plane_scale plane_ip plane_form 1%nat (fun _ => 1) (fun _ => (1, 0)));
    exists 0%nat; split; [lia | lra].
Qed.
Lemma pair_is_a_group_of_two_applies : ltac:(applies @pair_is_a_group_of_two). Proof. found. Qed.
Lemma pair_margin_from_the_group_applies : ltac:(applies @pair_margin_from_the_group). Proof. found. Qed.
Lemma pair_never_reversed_from_the_group_applies : ltac:(applies @pair_never_reversed_from_the_group).
Proof. found. Qed.
Lemma batch_is_a_group_applies : ltac:(applies @batch_is_a_group). Proof. found. Qed.
Lemma batch_weighted_slopes_applies : ltac:(applies @batch_weighted_slopes). Proof. found. Qed.
Lemma batch_margins_are_squared_step_applies : ltac:(applies @batch_margins_are_squared_step). Proof. found. Qed.
Lemma batch_margins_never_fall_applies : ltac:(applies @batch_margins_never_fall). Proof. found. Qed.
Lemma pair_reversed_only_beside_one_that_is_not_applies : ltac:(applies @pair_reversed_only_beside_one_that_is_not).
Proof.
  intros k; destruct one_pair_of_a_batch_reversed as [_ reversed]; exact (k _ _ _ _ plane_form 2%nat (fun _ => 1) (fun
    _ => 1) _ _ 0%nat (fun _ _ => conj Rlt_0_1 Rlt_0_1) ltac:(lia) reversed).
Qed.
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
Lemma normalised_pair_separates_iff_centre_in_band_applies :
  ltac:(applies @normalised_pair_separates_iff_centre_in_band).
Proof. found. Qed.
Lemma only_the_norm_ratio_is_safe_at_every_cosine_applies : ltac:(applies @only_the_norm_ratio_is_safe_at_every_cosine).
Proof. found. Qed.
Lemma balanced_weights_keep_the_product_applies : ltac:(applies @balanced_weights_keep_the_product). Proof. found. Qed.
Lemma balanced_weights_have_the_norm_ratio_applies : ltac:(applies @balanced_weights_have_the_norm_ratio).
Proof. found. Qed.
Lemma norm_ratio_takes_the_normalised_direction_applies : ltac:(applies @norm_ratio_takes_the_normalised_direction).
Proof. intros k; apply (k (Gram 1 1 (1/2)) 1 1); simpl; try lra; unfold norm_ratio; simpl; rewrite sqrt_1; lra. Qed.
Lemma norm_ratio_separates_iff_applies : ltac:(applies @norm_ratio_separates_iff).
Proof. intros k; apply (k (Gram 1 1 (1/2)) 1 1); simpl; try lra; unfold norm_ratio; simpl; rewrite sqrt_1; lra. Qed.
Lemma balanced_weights_separate_iff_applies : ltac:(applies @balanced_weights_separate_iff). Proof. found. Qed.
Lemma normalised_step_slopes_applies : ltac:(applies @normalised_step_slopes).
Proof.
  intros k; apply (k (R * R)%type plane_plus plane_scale plane_ip plane_form (1, 0) (0, 1)); unfold plane_ip; simpl;
    lra.
Qed.
Lemma normalised_step_never_displaces_applies : ltac:(applies @normalised_step_never_displaces).
Proof.
  intros k; apply (k (R * R)%type plane_plus plane_scale plane_ip plane_form (1, 0) (0, 1)); unfold plane_ip; simpl;
    lra.
Qed.
Lemma normalised_step_squared_length_applies : ltac:(applies @normalised_step_squared_length).
Proof.
  intros k; apply (k (R * R)%type plane_plus plane_scale plane_ip plane_form (1, 0) (0, 1)); unfold plane_ip; simpl;
    lra.
Qed.
Lemma masked_gradients_have_masked_gram_applies : ltac:(applies @masked_gradients_have_masked_gram). Proof. found. Qed.
Lemma mask_keeping_one_token_each_applies : ltac:(applies @mask_keeping_one_token_each). Proof. found. Qed.
Lemma masked_gradient_is_the_gradient_applies : ltac:(applies @masked_gradient_is_the_gradient). Proof. found. Qed.
Lemma contrast_token_alone_is_single_token_applies : ltac:(applies @contrast_token_alone_is_single_token).
Proof. found. Qed.
Lemma contrast_token_alone_is_separated_applies : ltac:(applies @contrast_token_alone_is_separated).
Proof.
  intros k; apply (k 2%nat 1%nat (fun _ _ => 0) (one_token_text 0) (one_token_text 1) 0%nat 0%nat 1); first [simpl;
    lia | intros i i_lt; simpl; lia | split; intros; reflexivity | unfold dot; simpl; lra].
Qed.
Lemma likelihood_separates_iff_applies : ltac:(applies @likelihood_separates_iff). Proof. found. Qed.
Lemma likelihood_separates_iff_unless_entangled_applies : ltac:(applies @likelihood_separates_iff_unless_entangled).
Proof. found. Qed.
Lemma window_length_by_cosine_applies : ltac:(applies @window_length_by_cosine). Proof. found. Qed.
Lemma window_open_iff_not_parallel_applies : ltac:(applies @window_open_iff_not_parallel). Proof. found. Qed.
Lemma too_little_likelihood_lowers_both_applies : ltac:(applies @too_little_likelihood_lowers_both).
Proof. intros k; apply (k (Gram 2 5 3) 1 (-1)); unfold psd, window_low, window_high; simpl; lra. Qed.
Lemma too_much_likelihood_lifts_both_applies : ltac:(applies @too_much_likelihood_lifts_both).
Proof. intros k; apply (k (Gram 2 5 3) 1 2); unfold psd, window_low, window_high; simpl; lra. Qed.
Lemma no_likelihood_term_helps_applies : ltac:(applies @no_likelihood_term_helps). Proof. found. Qed.
Lemma both_rise_already_applies : ltac:(applies @both_rise_already). Proof. found. Qed.
Lemma some_likelihood_term_helps_iff_applies : ltac:(applies @some_likelihood_term_helps_iff). Proof. found. Qed.

(** ** Crowd *)

Lemma batch_that_shares_everything_but_the_label_applies : ltac:(applies @batch_that_shares_everything_but_the_label).
Proof. found. Qed.
Lemma without_balance_nothing_cancels_applies : ltac:(applies @without_balance_nothing_cancels).
Proof. intros k; apply (k 1 1 1 1); unfold batch_suffix_factor; lra. Qed.
Lemma batch_threshold_limit_applies : ltac:(applies @batch_threshold_limit). Proof. found. Qed.
Lemma slope_in_the_crowd_applies : ltac:(applies @slope_in_the_crowd).
Proof.
  intros k; assert (after : forall y a, 0 < a < 1 -> forall i v, probs 3 2 (fun _ _ => 0) (peaked_text 3 1 2 y a is)
    (S i) v = peaked 3 2 a v) by (intros; apply peaked_text_probs; lia || lra); set (first k := match k with 0%nat =>
    0%nat | _ => 1%nat end); set (second k := match k with 0%nat => 1%nat | _ => 0%nat end); apply (k 3%nat 2%nat (fun
    _ _ => 0) 1%nat 2%nat (fun k => peaked_text 3 1 2 (first k) (1/2) is) (fun k => peaked_text 3 1 2 (second k) (1/4)
    is) (peaked_text 3 1 2 0 (1/2) is) 2%nat 0%nat 1%nat (fun k => match k with 0%nat => true | _ => false end) 1
    (1/2) (1/4) (1/2) 1 (fun _ => 1) (fun _ => 1)); first [lia | lra | reflexivity | simpl; lia | exact (fun _ _ =>
    conj eq_refl eq_refl) | (intros; reflexivity) | (intros [|[|q]] ?; simpl; auto; lia) | (intros; split; apply
    after; lra) | (intros; apply after; lra) | (intros; simpl feature; rewrite dot_is_left, is_same by lia; ring) |
    (intros; simpl feature; rewrite dot_is_left, is_different by lia; reflexivity) | (unfold suffix_pull,
    batch_suffix_factor, agree; simpl; lra)].
Qed.
Lemma falls_in_the_crowd_iff_applies : ltac:(applies @falls_in_the_crowd_iff).
Proof.
  intros k; assert (after : forall y a, 0 < a < 1 -> forall i v, probs 3 2 (fun _ _ => 0) (peaked_text 3 1 2 y a is)
    (S i) v = peaked 3 2 a v) by (intros; apply peaked_text_probs; lia || lra); set (first k := match k with 0%nat =>
    0%nat | _ => 1%nat end); set (second k := match k with 0%nat => 1%nat | _ => 0%nat end); apply (k 3%nat 2%nat (fun
    _ _ => 0) 1%nat 2%nat (fun k => peaked_text 3 1 2 (first k) (1/2) is) (fun k => peaked_text 3 1 2 (second k) (1/4)
    is) (peaked_text 3 1 2 0 (1/2) is) 2%nat 0%nat 1%nat (fun k => match k with 0%nat => true | _ => false end) 1
    (1/2) (1/4) (1/2) 1 (fun _ => 1) (fun _ => 1)); first [lia | lra | reflexivity | simpl; lia | exact (fun _ _ =>
    conj eq_refl eq_refl) | (intros; reflexivity) | (intros [|[|q]] ?; simpl; auto; lia) | (intros; split; apply
    after; lra) | (intros; apply after; lra) | (intros; simpl feature; rewrite dot_is_left, is_same by lia; ring) |
    (intros; simpl feature; rewrite dot_is_left, is_different by lia; reflexivity) | (unfold suffix_pull,
    batch_suffix_factor, agree; simpl; lra)].
Qed.
Lemma chosen_of_the_batch_falls_iff_applies : ltac:(applies @chosen_of_the_batch_falls_iff).
Proof.
  intros k; assert (after : forall y a, 0 < a < 1 -> forall i v, probs 3 2 (fun _ _ => 0) (peaked_text 3 1 2 y a is)
    (S i) v = peaked 3 2 a v) by (intros; apply peaked_text_probs; lia || lra); set (first k := match k with 0%nat =>
    0%nat | _ => 1%nat end); set (second k := match k with 0%nat => 1%nat | _ => 0%nat end); apply (k 3%nat 2%nat (fun
    _ _ => 0) 1%nat 2%nat (fun k => peaked_text 3 1 2 (first k) (1/2) is) (fun k => peaked_text 3 1 2 (second k) (1/4)
    is) (peaked_text 3 1 2 0 (1/2) is) 2%nat 0%nat 1%nat (fun k => match k with 0%nat => true | _ => false end) 1
    (1/2) (1/4) (1/2) 1 (fun _ => 1) (fun _ => 1)) with (me := 0%nat) (ρs := 1) (ρd := 1) (ρψ := 1); first [lia | lra
    | reflexivity | simpl; lia | exact (fun _ _ => conj eq_refl eq_refl) | (intros; reflexivity) | (intros [|[|q]] ?;
    simpl; auto; lia) | (intros; split; apply after; lra) | (intros; apply after; lra) | (intros; simpl feature;
    rewrite dot_is_left, is_same by lia; ring) | (intros; simpl feature; rewrite dot_is_left, is_different by lia;
    reflexivity) | (unfold suffix_pull, batch_suffix_factor, agree; simpl; lra)].
Qed.
Lemma unseen_chosen_falls_iff_applies : ltac:(applies @unseen_chosen_falls_iff).
Proof.
  intros k; assert (after : forall y a, 0 < a < 1 -> forall i v, probs 3 2 (fun _ _ => 0) (peaked_text 3 1 2 y a is)
    (S i) v = peaked 3 2 a v) by (intros; apply peaked_text_probs; lia || lra); set (first k := match k with 0%nat =>
    0%nat | _ => 1%nat end); set (second k := match k with 0%nat => 1%nat | _ => 0%nat end); apply (k 3%nat 2%nat (fun
    _ _ => 0) 1%nat 2%nat (fun k => peaked_text 3 1 2 (first k) (1/2) is) (fun k => peaked_text 3 1 2 (second k) (1/4)
    is) (peaked_text 3 1 2 0 (1/2) is) 2%nat 0%nat 1%nat (fun k => match k with 0%nat => true | _ => false end) 1
    (1/2) (1/4) (1/2) 1 (fun _ => 1) (fun _ => 1)) with (ρs := 1) (ρd := 1) (ρψ := 1); first [lia | lra | reflexivity
    | simpl; lia | exact (fun _ _ => conj eq_refl eq_refl) | (intros; reflexivity) | (intros [|[|q]] ?; simpl; auto;
    lia) | (intros; split; apply after; lra) | (intros; apply after; lra) | (intros; simpl feature; rewrite
    dot_is_left, is_same by lia; ring) | (intros; simpl feature; rewrite dot_is_left, is_different by lia;
    reflexivity) | (unfold suffix_pull, batch_suffix_factor, agree; simpl; lra)].
Qed.
Lemma no_learning_rate_saves_it_from_the_crowd_applies : ltac:(applies @no_learning_rate_saves_it_from_the_crowd).
Proof.
  intros k; pose proof crowd_displaces_what_a_pair_survives as [_ falls]; cbv zeta in falls; refine (k 20%nat 9%nat _
    1%nat 4%nat _ _ _ 2%nat 0%nat 1%nat 1 _ _ _ _ _ _ _ _ _ 1 falls Rlt_0_1); first [lia | reflexivity | intros;
    reflexivity | simpl; lia].
Qed.

(** ** Account *)

Lemma memory_is_the_sum_over_sources_applies : ltac:(applies @memory_is_the_sum_over_sources).
Proof.
  intros k; apply (k (nat * nat)%type (sgd 1) 1%nat (total 1 (fun _ _ => 0)) (fun _ _ => 0) (fun _ => total 1 (fun _ _
    => 0)) (fun _ _ _ => 0) (entrywise_optimisers_are_linear _ _ _ _) eq_refl (fun _ => eq_refl)); exact 0%nat.
Qed.
Lemma update_is_the_sum_over_sources_applies : ltac:(applies @update_is_the_sum_over_sources).
Proof.
  intros k; apply (k (nat * nat)%type (sgd 1) 1%nat (total 1 (fun _ _ => 0)) (fun _ _ => 0) (fun _ => total 1 (fun _ _
    => 0)) (fun _ _ _ => 0) (entrywise_optimisers_are_linear _ _ _ _) eq_refl (fun _ => eq_refl)); exact 0%nat.
Qed.
Lemma contributions_add_up_applies : ltac:(applies @contributions_add_up).
Proof.
  intros k; apply (k (nat * nat)%type (sgd 1) 1%nat (total 1 (fun _ _ => 0)) (fun _ _ => 0) (fun _ => total 1 (fun _ _
    => 0)) (fun _ _ _ => 0) (entrywise_optimisers_are_linear _ _ _ _) eq_refl (fun _ => eq_refl) _ (entries_form 1
    1)); first [exact 0%nat | exact (fun _ _ => 0)].
Qed.
Lemma contributions_with_decay_add_up_applies : ltac:(applies @contributions_with_decay_add_up).
Proof.
  intros k; apply (k (nat * nat)%type (sgd 1) 1%nat (total 1 (fun _ _ => 0)) (fun _ _ => 0) (fun _ => total 1 (fun _ _
    => 0)) (fun _ _ _ => 0) (entrywise_optimisers_are_linear _ _ _ _) eq_refl (fun _ => eq_refl) _ (entries_form 1
    1)); first [exact 0%nat | exact (fun _ _ => 0)].
Qed.
Lemma remainder_of_a_run_applies : ltac:(applies @remainder_of_a_run).
Proof.
  intros k; apply (k 1%nat 1%nat (fun _ _ => 0) (fun _ _ _ => 0) (one_token_text 0)); [intros i i_lt; simpl; lia |
    exact 1%nat].
Qed.
Lemma a_negative_account_is_a_fall_applies : ltac:(applies @a_negative_account_is_a_fall).
Proof.
  intros k; destruct too_large_a_step_overshoots as [rising _]; set (D := fun v (_ : nat) => match v with 0%nat => 1 |
    1%nat => 2 | _ => -6 end) in *; assert (slope 3 1 (fun _ _ => 0) first_of_three (matrix_scale (-1) D) < 0) as
    falling by (unfold slope in *; rewrite (symmetric _ _ _ (matrices_form 3 1)), (homogeneous _ _ _ (matrices_form 3
    1)), (symmetric _ _ _ (matrices_form 3 1)); lra); apply (k 3%nat 1%nat (fun _ _ => 0) (fun _ => matrix_scale (-1)
    D) first_of_three ltac:(intros [|i] i_lt; simpl in *; lia) 1%nat); unfold first_order; simpl; lra.
Qed.
Lemma account_of_linear_softmax_applies : ltac:(applies @account_of_linear_softmax).
Proof.
  intros k; apply (k 1%nat 1%nat (fun _ _ => 0) (one_token_text 0) (sgd 1) 1%nat (total 1 (fun _ _ => 0)) (fun _ _ =>
    0) (fun _ => total 1 (fun _ _ => 0)) (fun _ _ _ => 0) 1%nat); first [reflexivity | intros i i_lt; simpl; lia |
    apply entrywise_optimisers_are_linear].
Qed.

(** ** CommonStep *)

Lemma shortest_point_gives_every_slope_applies : ltac:(applies @shortest_point_gives_every_slope).
Proof.
  intros k; destruct (shortest_point_exists _ _ _ _ plane_form 1 (fun _ => (1, 0)) ltac:(lia)) as [λ least]; exact (k
    (R * R)%type plane_plus plane_scale plane_ip plane_form 1%nat _ λ 0%nat least ltac:(lia)).
Qed.
Lemma shortest_point_iff_applies : ltac:(applies @shortest_point_iff). Proof. found. Qed.
Lemma no_direction_does_better_applies : ltac:(applies @no_direction_does_better).
Proof.
  intros k; apply (k (R * R)%type plane_plus plane_scale plane_ip plane_form 1%nat (fun _ => (1, 0)) (fun _ => 1) (1,
    0) 1); first [(split; [intros; lra | simpl; lra]) | lra | intros; unfold plane_ip; simpl; lra].
Qed.
Lemma direction_keeps_hull_from_zero_applies : ltac:(applies @direction_keeps_hull_from_zero).
Proof.
  intros k; apply (k (R * R)%type plane_plus plane_scale plane_ip plane_form 1%nat (fun _ => (1, 0)) (1, 0) (fun _ =>
    1)); first [(split; [intros; lra | simpl; lra]) | intros; unfold plane_ip; simpl; lra].
Qed.
Lemma shortest_point_exists_applies : ltac:(applies @shortest_point_exists). Proof. found. Qed.
Lemma gordan_applies : ltac:(applies @gordan). Proof. found. Qed.
Lemma gordan_alternative_applies : ltac:(applies @gordan_alternative). Proof. found. Qed.
Lemma shortest_step_serves_every_pair_applies : ltac:(applies @shortest_step_serves_every_pair).
Proof.
  intros k; destruct (shortest_point_exists _ _ _ _ plane_form (1 + 1) (oriented _ plane_scale 1 (fun _ => (1, 0))
    (fun _ => (0, 1))) ltac:(lia)) as [λ least]; exact (k (R * R)%type plane_plus plane_scale plane_ip plane_form
    1%nat _ _ λ least 0%nat ltac:(lia)).
Qed.
Lemma common_direction_exists_iff_applies : ltac:(applies @common_direction_exists_iff). Proof. found. Qed.
Lemma cheapest_step_applies : ltac:(applies @cheapest_step).
Proof.
  intros k; apply (k (R * R)%type plane_plus plane_scale plane_ip plane_form (1, 0) (0, 1) 1 1); unfold plane_ip;
    simpl; lra.
Qed.

(** ** Credit *)

Lemma credit_by_covariances_applies : ltac:(applies @credit_by_covariances). Proof. found. Qed.
Lemma credit_in_a_shared_context_applies : ltac:(applies @credit_in_a_shared_context). Proof. found. Qed.
Lemma shared_token_in_a_shared_context_applies : ltac:(applies @shared_token_in_a_shared_context). Proof. found. Qed.
Lemma shared_token_gets_nothing_applies : ltac:(applies @shared_token_gets_nothing).
Proof.
  intros k; apply (k 2%nat (fun i => match i with O => 1 | _ => -1 end) half (fun _ => 0%nat) 0%nat 0%nat);
    [reflexivity | simpl; lra].
Qed.
Lemma shared_token_after_divergence_applies : ltac:(applies @shared_token_after_divergence). Proof. found. Qed.
Lemma prefix_earns_the_sum_of_weights_applies : ltac:(applies @prefix_earns_the_sum_of_weights).
Proof.
  intros k; apply (k 1%nat 1%nat (fun _ _ => 0) 1%nat half (fun _ => one_token_text 0) (one_token_text 0) 1%nat 0%nat
    0%nat); intros; repeat split; simpl; auto.
Qed.
Lemma shared_prefix_gets_nothing_applies : ltac:(applies @shared_prefix_gets_nothing).
Proof.
  intros k; apply (k 1%nat 1%nat (fun _ _ => 0) 2%nat (fun i => match i with O => 1 | _ => -1 end) (fun _ =>
    one_token_text 0) (one_token_text 0) 1%nat 0%nat 0%nat); [intros; repeat split; simpl; auto | simpl; lra].
Qed.

(** ** Modified *)

Lemma descent_follows_the_modified_flow_applies : ltac:(applies @descent_follows_the_modified_flow).
Proof.
  intros k; apply (k 1%nat 1 (fun _ => 1) (fun _ => 0) (fun _ => 1) _ 1%nat 0%nat ltac:(lia) ltac:(lra) ltac:(lra)
    ltac:(lra) (quadratic_has_a_flow 1 (stiffer 1 (fun _ => 1)) (fun _ => 0) (fun _ => 1))).
Qed.
Lemma descent_strays_from_the_plain_flow_applies : ltac:(applies @descent_strays_from_the_plain_flow).
Proof.
  intros k; apply (k 1%nat 1 (fun _ => 1) (fun _ => 0) (fun _ => 1) _ 1%nat 0%nat ltac:(lia) ltac:(lra) ltac:(lra)
    ltac:(lra) (quadratic_has_a_flow 1 (fun _ => 1) (fun _ => 0) (fun _ => 1))).
Qed.
Lemma modified_losses_differ_by_the_inner_product_applies : ltac:(applies @modified_losses_differ_by_the_inner_product).
Proof. found. Qed.
Lemma general_quadratic_gradient_applies : ltac:(applies @general_quadratic_gradient). Proof. found. Qed.
Lemma entangled_gradient_is_the_gradient_applies : ltac:(applies @entangled_gradient_is_the_gradient).
Proof. found. Qed.
Lemma split_steps_follow_their_modified_flow_applies : ltac:(applies @split_steps_follow_their_modified_flow).
Proof.
  intros k; destruct (split_loss_has_a_flow 1 (1/2) (fun _ => 1) (fun _ => 0) (fun _ => 1) (fun _ => 1) (fun _ => 0))
    as [X flow]; [lra | intros; lra |]; apply (k 1%nat (1/2) (fun _ => 1) (fun _ => 0) (fun _ => 1) (fun _ => 1) (fun
    _ => 0) X 1%nat 0%nat); first [exact flow | lia | lra].
Qed.
Lemma split_loss_has_a_flow_applies : ltac:(applies @split_loss_has_a_flow). Proof. found. Qed.

(** ** Fisher *)

Lemma fisher_entries_applies : ltac:(applies @fisher_entries). Proof. found. Qed.
Lemma natural_is_pseudo_solution_applies : ltac:(applies @natural_is_pseudo_solution). Proof. found. Qed.
Lemma fisher_inner_product_applies : ltac:(applies @fisher_inner_product). Proof. found. Qed.
Lemma fisher_signs_applies : ltac:(applies @fisher_signs). Proof. found. Qed.
Lemma fisher_cosine_applies : ltac:(applies @fisher_cosine). Proof. found. Qed.
Lemma fisher_step_separates_applies : ltac:(applies @fisher_step_separates).
Proof.
  intros k; apply (k 2%nat half ltac:(intros; unfold half; lra) ltac:(unfold half; simpl; lra) 0%nat 1%nat 1 1); first
    [lia | lra].
Qed.

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
