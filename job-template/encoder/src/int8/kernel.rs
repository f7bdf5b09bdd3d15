//! Integer matrix products: the inner loop of a quantized dense layer.
//!
//! There is a kernel for each instruction set, and all give the same sums, so that a model's answers don't depend on
//! the processor: AVX2 adds two products in 16 bits, which activations of 7 bits can't overflow.

#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "instructions that are detected at run time")
)]

/// Rows of a tile.
pub(super) const ROWS: usize = 8;
/// Columns of a tile.
pub(super) const COLUMNS: usize = 48;
/// Elements of a row and a column that one instruction multiplies and adds.
pub(super) const STEP: usize = 4;
/// The largest byte of a quantized activation.
pub(super) const MAX_BYTE: u8 = 127;

/// Weights of one step of a tile's columns. A panel is all steps of these columns.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Block(pub(super) [[i8; STEP]; COLUMNS]);

/// Sums of products, for each row and column of a tile.
pub(super) type Tile = [[i32; COLUMNS]; ROWS];

/// A kernel whose instructions this processor has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kernel(Instructions);

#[derive(Debug, Clone, Copy)]
enum Instructions {
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Plain,
}

impl Kernel {
    /// All that this processor can run, fastest first.
    pub(super) fn all() -> Vec<Self> {
        let mut all = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni") {
                all.push(Self(Instructions::Avx512Vnni));
            }
            if is_x86_feature_detected!("avx2") {
                if is_x86_feature_detected!("avxvnni") {
                    all.push(Self(Instructions::AvxVnni));
                }
                all.push(Self(Instructions::Avx2));
            }
        }
        all.push(Self(Instructions::Plain));
        all
    }

    /// The fastest one.
    pub(super) fn fastest() -> Self {
        Self::all()[0]
    }

    /// Writes the products' sums of at most [`ROWS`] rows with a panel's columns. The rows are adjacent, each with as
    /// many steps as the panel, and no byte of theirs is above [`MAX_BYTE`].
    ///
    /// # Panics
    /// Where there are more rows, or steps that are not whole rows.
    pub(super) fn tile(self, rows: &[[u8; STEP]], panel: &[Block], tile: &mut Tile) {
        let rows = rows.chunks_exact(panel.len());
        assert!(
            rows.len() <= ROWS && rows.remainder().is_empty(),
            "rows have the panel's steps, and fit into a tile"
        );
        match self.0 {
            // SAFETY: `all` detected these instructions.
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512Vnni => unsafe { x86::avx512_vnni(rows, panel, tile) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Instructions::AvxVnni => unsafe { x86::avx_vnni(rows, panel, tile) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2 => unsafe { x86::avx2(rows, panel, tile) },
            Instructions::Plain => plain(rows, panel, tile),
        }
    }
}

/// The rows of a tile.
type Rows<'a> = std::slice::ChunksExact<'a, [u8; STEP]>;

fn plain(rows: Rows<'_>, panel: &[Block], tile: &mut Tile) {
    for (row, sums) in rows.zip(tile) {
        *sums = [0; COLUMNS];
        for (numbers, block) in row.iter().zip(panel) {
            for (sum, weights) in sums.iter_mut().zip(&block.0) {
                for (&number, &weight) in numbers.iter().zip(weights) {
                    *sum += i32::from(number) * i32::from(weight);
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m256i, __m512i, _mm256_add_epi32, _mm256_dpbusd_avx_epi32, _mm256_loadu_si256,
        _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_set1_epi16, _mm256_set1_epi32,
        _mm256_setzero_si256, _mm256_storeu_si256, _mm512_dpbusd_epi32, _mm512_loadu_si512,
        _mm512_set1_epi32, _mm512_setzero_si512, _mm512_storeu_si512,
    };
    use std::array::from_fn;

    use super::{Block, COLUMNS, ROWS, Rows, STEP, Tile};

    /// Columns in a register of 512 bits, and how many of them a tile's columns are.
    const WIDE: usize = 16;
    const WIDES: usize = COLUMNS / WIDE;
    /// The same for 256 bits; half a tile's columns at a time, as there are only 16 registers.
    const NARROW: usize = 8;
    const NARROWS: usize = COLUMNS / NARROW / 2;
    /// Rows that fit into these registers together.
    const NARROW_ROWS: usize = 4;

    /// The next `COUNT` rows.
    fn take<'a, const COUNT: usize>(rows: &mut Rows<'a>) -> [&'a [[u8; STEP]]; COUNT] {
        from_fn(|_| rows.next().expect("`COUNT` rows are left"))
    }

    #[target_feature(enable = "avx512f,avx512vnni")]
    pub(super) fn avx512_vnni(mut rows: Rows<'_>, panel: &[Block], tile: &mut Tile) {
        let mut sums = tile.as_mut_slice();
        // Fewer rows are as fast one by one: the latency of a row's chained additions dominates.
        if rows.len() == ROWS {
            avx512_vnni_rows(take::<ROWS>(&mut rows), panel, sums);
        }
        while rows.len() > 0 {
            avx512_vnni_rows(take::<1>(&mut rows), panel, sums);
            sums = &mut sums[1..];
        }
    }

    #[target_feature(enable = "avx512f,avx512vnni")]
    fn avx512_vnni_rows<const COUNT: usize>(
        rows: [&[[u8; STEP]]; COUNT],
        panel: &[Block],
        into: &mut [[i32; COLUMNS]],
    ) {
        let mut sums = [[_mm512_setzero_si512(); WIDES]; COUNT];
        for (step, block) in panel.iter().enumerate() {
            // SAFETY: the slice is as long as a register.
            let weights: [__m512i; WIDES] = from_fn(|wide| unsafe {
                _mm512_loadu_si512(block.0[wide * WIDE..(wide + 1) * WIDE].as_ptr().cast())
            });
            for (row, sums) in rows.iter().zip(&mut sums) {
                let numbers = _mm512_set1_epi32(i32::from_ne_bytes(row[step]));
                for (sum, weights) in sums.iter_mut().zip(weights) {
                    *sum = _mm512_dpbusd_epi32(*sum, numbers, weights);
                }
            }
        }
        for (into, sums) in into.iter_mut().zip(sums) {
            for (into, sum) in into.as_chunks_mut::<WIDE>().0.iter_mut().zip(sums) {
                // SAFETY: the chunk is as long as a register.
                unsafe { _mm512_storeu_si512(into.as_mut_ptr().cast(), sum) };
            }
        }
    }

    /// A kernel in 256-bit registers; `$add` adds a step's products to the sums.
    macro_rules! narrow {
        ($name:ident, $rows_name:ident, $features:literal, $add:ident) => {
            #[target_feature(enable = $features)]
            pub(super) fn $name(mut rows: Rows<'_>, panel: &[Block], tile: &mut Tile) {
                let mut sums = tile.as_mut_slice();
                while rows.len() >= NARROW_ROWS {
                    $rows_name(take::<NARROW_ROWS>(&mut rows), panel, sums);
                    sums = &mut sums[NARROW_ROWS..];
                }
                while rows.len() > 0 {
                    $rows_name(take::<1>(&mut rows), panel, sums);
                    sums = &mut sums[1..];
                }
            }

            #[target_feature(enable = $features)]
            fn $rows_name<const COUNT: usize>(
                rows: [&[[u8; STEP]]; COUNT],
                panel: &[Block],
                into: &mut [[i32; COLUMNS]],
            ) {
                for half in [0, COLUMNS / 2] {
                    let mut sums = [[_mm256_setzero_si256(); NARROWS]; COUNT];
                    for (step, block) in panel.iter().enumerate() {
                        let weights: [__m256i; NARROWS] = from_fn(|narrow| {
                            let start = half + narrow * NARROW;
                            let weights = &block.0[start..start + NARROW];
                            // SAFETY: the slice is as long as a register.
                            unsafe { _mm256_loadu_si256(weights.as_ptr().cast()) }
                        });
                        for (row, sums) in rows.iter().zip(&mut sums) {
                            let numbers = _mm256_set1_epi32(i32::from_ne_bytes(row[step]));
                            for (sum, weights) in sums.iter_mut().zip(weights) {
                                *sum = $add(*sum, numbers, weights);
                            }
                        }
                    }
                    for (into, sums) in into.iter_mut().zip(sums) {
                        let into = into[half..].as_chunks_mut::<NARROW>().0;
                        for (into, sum) in into.iter_mut().zip(sums) {
                            // SAFETY: the chunk is as long as a register.
                            unsafe { _mm256_storeu_si256(into.as_mut_ptr().cast(), sum) };
                        }
                    }
                }
            }
        };
    }

    narrow!(
        avx_vnni,
        avx_vnni_rows,
        "avx2,avxvnni",
        _mm256_dpbusd_avx_epi32
    );
    narrow!(avx2, avx2_rows, "avx2", add_products);

    #[inline]
    #[target_feature(enable = "avx2")]
    fn add_products(sum: __m256i, numbers: __m256i, weights: __m256i) -> __m256i {
        let pairs = _mm256_maddubs_epi16(numbers, weights);
        _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// The sums by the definition, row by row and column by column.
    fn expected(rows: &[[u8; STEP]], panel: &[Block]) -> Vec<[i32; COLUMNS]> {
        rows.chunks_exact(panel.len())
            .map(|row| {
                std::array::from_fn(|column| {
                    let products = row.iter().zip(panel).flat_map(|(numbers, block)| {
                        (0..STEP).map(|index| {
                            i32::from(numbers[index]) * i32::from(block.0[column][index])
                        })
                    });
                    products.sum()
                })
            })
            .collect()
    }

    fn assert_kernels_match(rows: &[[u8; STEP]], panel: &[Block]) {
        let expected = expected(rows, panel);
        for kernel in Kernel::all() {
            let mut tile = [[-1; COLUMNS]; ROWS];
            kernel.tile(rows, panel, &mut tile);
            assert_eq!(tile[..expected.len()], expected, "{kernel:?}");
        }
    }

    #[test]
    fn all_kernels_give_the_same_sums() {
        let mut random = Random::new(3, "tile");
        let mut byte = || (random.bits() >> 32) as u8;
        for count in 1..=ROWS {
            for steps in [1, 2, 7, 96] {
                let rows: Vec<[u8; STEP]> = (0..count * steps)
                    .map(|_| std::array::from_fn(|_| byte() & MAX_BYTE))
                    .collect();
                let panel: Vec<Block> = (0..steps)
                    .map(|_| {
                        Block(std::array::from_fn(|_| {
                            std::array::from_fn(|_| byte().cast_signed().max(-127))
                        }))
                    })
                    .collect();
                assert_kernels_match(&rows, &panel);
            }
        }
    }

    #[test]
    fn the_largest_products_do_not_overflow() {
        let rows = [[MAX_BYTE; STEP]; ROWS * 384];
        for weight in [-127, 127] {
            assert_kernels_match(&rows, &vec![Block([[weight; STEP]; COLUMNS]); 384]);
        }
    }
}
