//! The stages from outside, as one test binary.

mod golden;
