//! Codes without redundancy for symbols of known frequencies.

/// Lengths of codes, at most `limit` bits (at most 15, and enough for all symbols); 0 for what does not occur. There
/// are always two codes at least, as some readers refuse a single one.
pub(super) fn lengths<const N: usize>(frequencies: &[u32; N], limit: usize) -> [u8; N] {
    let mut frequencies = *frequencies;
    for at in 0..2 {
        if frequencies.iter().filter(|count| **count > 0).count() < 2 {
            frequencies[at] = frequencies[at].max(1);
        }
    }
    let mut used: Vec<(u32, usize)> = frequencies
        .iter()
        .zip(0..)
        .filter(|(count, _)| **count > 0)
        .map(|(count, at)| (*count, at))
        .collect();
    used.sort_unstable();
    let counts = limited(depths(&used), limit);
    let mut lengths = [0; N];
    // The rarest have the longest codes.
    let longest_first = (1..=limit).rev().flat_map(|len| std::iter::repeat_n(len, counts[len] as usize));
    for ((_, symbol), len) in used.iter().zip(longest_first) {
        lengths[*symbol] = len as u8;
    }
    lengths
}

/// No code of 2^16 tokens is longer: each level of the tree weighs at least as much as the two below it.
const MAX_DEPTH: usize = 31;

/// How many symbols get codes of each length, without a limit. `used` is sorted and has two symbols at least.
fn depths(used: &[(u32, usize)]) -> [u32; MAX_DEPTH + 1] {
    let leaves = used.len();
    let nodes = 2 * leaves - 1;
    // Leaves, then the nodes above them as they are made, lightest first: two queues in one list.
    let mut weights: Vec<u32> = used.iter().map(|(count, _)| *count).collect();
    let mut parents = vec![0; nodes];
    let (mut leaf, mut inner) = (0, leaves);
    for made in leaves..nodes {
        let mut lightest = || {
            let is_leaf = leaf < leaves && (inner == made || weights[leaf] <= weights[inner]);
            let next = if is_leaf { &mut leaf } else { &mut inner };
            *next += 1;
            *next - 1
        };
        let (one, other) = (lightest(), lightest());
        weights.push(weights[one] + weights[other]);
        (parents[one], parents[other]) = (made, made);
    }
    let mut counts = [0; MAX_DEPTH + 1];
    let mut depths = vec![0; nodes];
    for node in (0..nodes - 1).rev() {
        depths[node] = depths[parents[node]] + 1;
        if node < leaves {
            counts[depths[node].min(MAX_DEPTH)] += 1;
        }
    }
    counts
}

/// Shortens what is longer than `limit`, and lengthens others until all fit again: at the cost of the rarest.
fn limited(mut counts: [u32; MAX_DEPTH + 1], limit: usize) -> [u32; MAX_DEPTH + 1] {
    for len in limit + 1..=MAX_DEPTH {
        counts[limit] += std::mem::take(&mut counts[len]);
    }
    // What the codes take up of all codes of `limit` bits.
    let mut taken: u32 = (1..=limit).map(|len| counts[len] << (limit - len)).sum();
    while taken > 1 << limit {
        let Some(shorter) = (1..limit).rev().find(|len| counts[*len] > 0) else { break };
        // One of the longest goes beside one that becomes longer by a bit.
        counts[limit] -= 1;
        counts[shorter] -= 1;
        counts[shorter + 1] += 2;
        taken -= 1;
    }
    counts
}

/// The codes that follow from their lengths (RFC 1951, 3.2.2), the first bit lowest.
pub(super) fn codes<const N: usize>(lengths: &[u8; N]) -> [u16; N] {
    let mut counts = [0_u16; 16];
    lengths.iter().filter(|len| **len > 0).for_each(|len| counts[usize::from(*len)] += 1);
    let mut next = [0_u16; 16];
    for len in 1..16 {
        next[len] = (next[len - 1] + counts[len - 1]) << 1;
    }
    lengths.map(|len| match len {
        0 => 0,
        len => {
            let code = &mut next[usize::from(len)];
            *code += 1;
            (*code - 1).reverse_bits() >> (16 - len)
        }
    })
}
