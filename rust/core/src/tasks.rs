//! Work shared out among threads, where there is enough of it.

use rayon::prelude::*;

/// Fewer operations than this are done sooner than a second thread is awake.
const WORTH_SHARING: usize = 1 << 19;

/// What `each` makes of every number below `count`, in order; one takes about this many
/// operations.
pub(crate) fn map<T: Send>(
    count: usize,
    operations: usize,
    each: impl Fn(usize) -> T + Sync + Send,
) -> Vec<T> {
    if is_worth_sharing(count.saturating_mul(operations)) {
        return (0..count).into_par_iter().map(each).collect();
    }
    (0..count).map(each).collect()
}

/// Whether so many operations are done sooner by several threads.
pub(crate) fn is_worth_sharing(operations: usize) -> bool {
    operations >= WORTH_SHARING
}
