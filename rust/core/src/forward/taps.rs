//! A window's geometry as a table: what every output position sees under every tap.

use crate::network::Window;

/// Stands for a tap over padding.
const PADDING: usize = usize::MAX;

/// Input positions, by output position and tap.
pub(crate) struct Taps {
    table: Vec<usize>,
    count: usize,
}

impl Taps {
    /// The table of a window.
    pub(crate) fn of(window: &Window) -> Self {
        let count = window.taps();
        let table = (0..window.positions())
            .flat_map(|position| {
                (0..count).map(move |tap| window.input_position(position, tap).unwrap_or(PADDING))
            })
            .collect();
        Self { table, count }
    }

    /// The table of one window over everything.
    pub(crate) fn over_all(positions: usize) -> Self {
        Self { table: (0..positions).collect(), count: positions }
    }

    /// Number of output positions.
    pub(crate) fn positions(&self) -> usize {
        self.table.len() / self.count
    }

    /// Tap numbers with the input positions under them, padding left out.
    pub(crate) fn seen(&self, position: usize) -> impl Iterator<Item = (usize, usize)> + '_ {
        let row = &self.table[position * self.count..(position + 1) * self.count];
        row.iter().copied().enumerate().filter(|&(_, at)| at != PADDING)
    }
}
