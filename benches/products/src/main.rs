//! Times matrix products on request: a line of JSON out for each line in.
//!
//! A request is `SHAPE DTYPE THREADS ENGINE SECONDS`, where SHAPE is `gram:ROWSxCOLUMNS` or
//! `product:ROWSxINNERxCOLUMNS` and SECONDS is for how long at least the product is repeated. The
//! answer has wall-clock and CPU seconds of one product, a fingerprint of its bytes, and three of
//! its elements. `benches/products.py` asks, and times NumPy in between.

mod element;
mod engine;
mod kernel;

use std::hash::{DefaultHasher, Hasher};
use std::io::{BufRead, Write};
use std::time::Instant;

use ndarray::Array2;

use element::{Element, matrix};
use engine::Engine;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Gram { rows: usize, columns: usize },
    Product { rows: usize, inner: usize, columns: usize },
}

impl Shape {
    fn named(name: &str) -> Option<Self> {
        let (kind, sizes) = name.split_once(':')?;
        let sizes: Vec<usize> = sizes.split('x').map(str::parse).collect::<Result<_, _>>().ok()?;
        match (kind, &sizes[..]) {
            ("gram", &[rows, columns]) => Some(Self::Gram { rows, columns }),
            ("product", &[rows, inner, columns]) => Some(Self::Product { rows, inner, columns }),
            _ => None,
        }
    }
}

/// The matrices of one shape and kind of number, kept from one request to the next.
struct Matrices<T> {
    shape: Shape,
    /// A of a product, W of a Gram product in T.
    a: Array2<T>,
    /// W as the engine has it, or B of a product.
    kernel: Array2<f32>,
    /// B in T; empty for a Gram product.
    b: Array2<T>,
}

impl<T: Element> Matrices<T> {
    fn of(shape: Shape) -> Self {
        match shape {
            Shape::Gram { rows, columns } => {
                let kernel = matrix(rows, columns, 0);
                let a = kernel.mapv(T::of);
                Self { shape, a, kernel, b: Array2::from_elem((0, 0), T::ZERO) }
            }
            Shape::Product { rows, inner, columns } => {
                let a = matrix(rows, inner, 0).mapv(T::of);
                let kernel = matrix(columns, inner, 1);
                let b = kernel.mapv(T::of);
                Self { shape, a, kernel, b }
            }
        }
    }

    fn multiply(&self, engine: Engine, threads: usize) -> Array2<T> {
        match self.shape {
            Shape::Gram { .. } => engine.gram(self.kernel.view(), self.a.view(), threads),
            Shape::Product { .. } => {
                engine.product(self.a.view(), self.kernel.view(), self.b.view(), threads)
            }
        }
    }

    fn answer(&self, engine: Engine, threads: usize, seconds: f64) -> String {
        let (started, used) = (Instant::now(), cpu_seconds());
        let mut product = self.multiply(engine, threads);
        let mut calls = 1;
        while started.elapsed().as_secs_f64() < seconds {
            product = self.multiply(engine, threads);
            calls += 1;
        }
        let (wall, cpu) = (started.elapsed().as_secs_f64(), cpu_seconds() - used);
        let (rows, columns) = product.dim();
        let [first, corner, last] =
            [(0, 0), (rows - 1, 0), (rows - 1, columns - 1)].map(|at| product[at].wide());
        let bytes = fingerprint(&product, matches!(self.shape, Shape::Gram { .. }));
        let (wall, cpu) = (wall / f64::from(calls), cpu / f64::from(calls));
        format!(
            "{{\"wall\": {wall:e}, \"cpu\": {cpu:e}, \"calls\": {calls}, \"bytes\": \"{bytes:x}\", \
             \"elements\": [{first:e}, {corner:e}, {last:e}], \"reads_wide\": {}}}",
            engine.reads_wide()
        )
    }
}

/// What all bytes of a product, or of its lower triangle, come down to.
fn fingerprint<T: Element>(product: &Array2<T>, lower: bool) -> u64 {
    let mut hasher = DefaultHasher::new();
    for (number, row) in product.rows().into_iter().enumerate() {
        for &value in row.iter().take(if lower { number + 1 } else { row.len() }) {
            hasher.write_u64(value.bits());
        }
    }
    hasher.finish()
}

/// CPU seconds of all threads of this process.
fn cpu_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // Safe: it writes to what it is given.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// Answer one request, with matrices made anew where its shape is another.
fn answer<T: Element>(
    known: &mut Option<Matrices<T>>,
    shape: Shape,
    threads: usize,
    engine: Engine,
    seconds: f64,
) -> String {
    if known.as_ref().is_none_or(|matrices| matrices.shape != shape) {
        *known = None;
        *known = Some(Matrices::of(shape));
    }
    known.as_ref().map_or_else(String::new, |matrices| matrices.answer(engine, threads, seconds))
}

fn main() {
    let (mut single, mut double) = (None::<Matrices<f32>>, None::<Matrices<f64>>);
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let request = || {
            let [shape, dtype, threads, engine, seconds] = words[..] else { return None };
            Some((
                Shape::named(shape)?,
                dtype,
                threads.parse::<usize>().ok().filter(|&threads| threads > 0)?,
                Engine::named(engine)?,
                seconds.parse::<f64>().ok()?,
            ))
        };
        let answer = match request() {
            Some((shape, "f32", threads, engine, seconds)) => {
                double = None;
                answer(&mut single, shape, threads, engine, seconds)
            }
            Some((shape, "f64", threads, engine, seconds)) => {
                single = None;
                answer(&mut double, shape, threads, engine, seconds)
            }
            _ => format!("{{\"error\": {line:?}}}"),
        };
        println!("{answer}");
        std::io::stdout().flush().expect("someone reads");
    }
}
