"""The checks of methods."""

from __future__ import annotations

from lopbench.testing.check import Check
from lopbench.testing.methods.acting import (
    acts,
    composes,
    fields_matter,
    layers_are_served_or_refused,
    overhead,
    zero_is_none,
)
from lopbench.testing.methods.boundaries import (
    boundaries_stay_unknown,
    boundary_noise_has_the_layers_scale,
    boundary_resets_clear_the_optimizer,
    track_follows_from_the_hooks,
)
from lopbench.testing.methods.fields import (
    cost_is_told_in_multiples,
    grid_can_be_searched,
    replacement_rate_is_kept,
    transferred_means_arrive,
    units_are_safe_until_mature,
)
from lopbench.testing.methods.hooks import (
    batch_is_replaced,
    loss_is_passed_on,
    online_score_is_of_the_stream,
    penalty_is_per_replica,
    reports_are_free,
    statistics_move_once,
)
from lopbench.testing.methods.memory import (
    begin_changes_nothing,
    copies_share_no_memory,
    evaluation_is_free,
    initial_weights_are_captured_first,
    parameters_stay_the_same_objects,
    resumes,
)
from lopbench.testing.methods.numerics import device_and_dtype_are_kept, hard_inputs_stay_finite
from lopbench.testing.methods.randomness import moves_no_other_stream, noise_is_drawn_anew, private_randomness
from lopbench.testing.methods.replicas import replicas_are_independent, traced_equals_steps
from lopbench.testing.methods.units import (
    active_units_are_not_taken_for_silent,
    networks_without_units_are_refused,
    resets_clear_the_optimizer,
    resets_erase_outgoing_weights,
    resets_follow_the_law_of_construction,
    resets_redraw_incoming_weights,
    resets_renew_normalisations,
    resets_touch_nothing_else,
)
from lopbench.testing.shared import SHARED

CHECKS: tuple[Check, ...] = (
    *SHARED,
    acts,
    fields_matter,
    grid_can_be_searched,
    cost_is_told_in_multiples,
    zero_is_none,
    composes,
    resumes,
    private_randomness,
    noise_is_drawn_anew,
    moves_no_other_stream,
    replicas_are_independent,
    traced_equals_steps,
    parameters_stay_the_same_objects,
    copies_share_no_memory,
    initial_weights_are_captured_first,
    begin_changes_nothing,
    evaluation_is_free,
    batch_is_replaced,
    online_score_is_of_the_stream,
    penalty_is_per_replica,
    loss_is_passed_on,
    reports_are_free,
    statistics_move_once,
    resets_redraw_incoming_weights,
    resets_erase_outgoing_weights,
    resets_touch_nothing_else,
    resets_clear_the_optimizer,
    resets_renew_normalisations,
    resets_follow_the_law_of_construction,
    units_are_safe_until_mature,
    replacement_rate_is_kept,
    transferred_means_arrive,
    active_units_are_not_taken_for_silent,
    networks_without_units_are_refused,
    layers_are_served_or_refused,
    track_follows_from_the_hooks,
    boundaries_stay_unknown,
    boundary_noise_has_the_layers_scale,
    boundary_resets_clear_the_optimizer,
    device_and_dtype_are_kept,
    hard_inputs_stay_finite,
    overhead,
)
