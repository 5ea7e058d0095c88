//! [`vectorized`]: functions compiled again for wider registers.

/// Defines functions that are compiled three times on x86-64: for any machine, and for machines with AVX2 and with AVX-512, chosen
/// when called.
///
/// The numbers are the same in both: the compiler may neither reorder `f32` additions nor fuse them with multiplications.
macro_rules! vectorized {
    ($($(#[$meta:meta])* $vis:vis fn $name:ident($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)? $body:block)*) => {$(
        $(#[$meta])*
        $vis fn $name($($argument: $type),*) $(-> $result)? {
            #[inline(always)]
            fn any($($argument: $type),*) $(-> $result)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                fn wide($($argument: $type),*) $(-> $result)? {
                    any($($argument),*)
                }
                #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq")]
                fn widest($($argument: $type),*) $(-> $result)? {
                    any($($argument),*)
                }
                if crate::vectorize::has_avx512() {
                    #[expect(unsafe_code, reason = "a function for AVX-512 may only be called where there is AVX-512")]
                    // SAFETY: the machine was just asked for all four of its parts.
                    return unsafe { widest($($argument),*) };
                }
                if std::arch::is_x86_feature_detected!("avx2") {
                    #[expect(unsafe_code, reason = "a function for AVX2 may only be called where there is AVX2")]
                    // SAFETY: the machine was just asked for AVX2.
                    return unsafe { wide($($argument),*) };
                }
            }
            any($($argument),*)
        }
    )*};
}

pub(crate) use vectorized;

/// Whether the machine has the parts of AVX-512 that the functions are compiled for.
#[cfg(target_arch = "x86_64")]
pub(crate) fn has_avx512() -> bool {
    use std::arch::is_x86_feature_detected as has;
    has!("avx512f") && has!("avx512vl") && has!("avx512bw") && has!("avx512dq")
}
