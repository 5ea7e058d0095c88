//! [`Parity`]: the reference's known mistakes, switched on one by one.
//!
//! Only tests use it, to reproduce fixtures that the reference made as it is. No manifest can reach it.

/// Which of the reference's mistakes to repeat. None by default.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parity {
    /// Every enumerated span is a candidate, padding included, and the contrastive loss lowers masked candidates by
    /// ln(1e-13) instead of removing them (defect 19).
    pub every_span: bool,
    /// Golds as long as the maximum are dropped (14).
    pub shorter_golds: bool,
    /// Golds with a boundary word without subwords are dropped (23).
    pub unsnapped_golds: bool,
    /// Cross-encoder: word ends are read at the wrong place (11); with a threshold slot the last position ends no span, and
    /// spans may be one longer than the maximum (12).
    pub cross_masks: bool,
}

impl Parity {
    /// What the `ref` fixtures need.
    pub const REFERENCE: Self = Self {
        every_span: true,
        shorter_golds: true,
        unsnapped_golds: true,
        cross_masks: true,
    };
    /// What the `__fixed` fixtures need: masks as they should be.
    pub const FIXED: Self = Self {
        shorter_golds: false,
        cross_masks: false,
        ..Self::REFERENCE
    };
}
