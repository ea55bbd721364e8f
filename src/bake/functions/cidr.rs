//! Networks of IP addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Call, Outcome, Wrong, at};
use crate::bake::value::Value;

/// A prefix, its address as bits.
#[derive(Clone, Copy)]
struct Network {
    bits: u128,
    length: u32,
    /// 32 or 128.
    width: u32,
}

impl Network {
    fn parse(call: &Call<'_>) -> Result<Self, Wrong> {
        let text = call.text(0);
        let parsed = text.split_once('/').and_then(|(address, length)| {
            let length: u32 = length.parse().ok()?;
            let (bits, width) = match address.parse().ok()? {
                IpAddr::V4(address) => (u128::from(u32::from(address)), 32),
                IpAddr::V6(address) => (u128::from(address), 128),
            };
            (length <= width).then(|| Self { bits, length, width }.masked())
        });
        parsed.map_or_else(|| at(0, format!("`{text}` is no network like 10.0.0.0/16")), Ok)
    }

    /// With no bit beyond its prefix.
    fn masked(self) -> Self {
        let free = self.width - self.length;
        let bits = if free >= 128 { 0 } else { self.bits >> free << free };
        Self { bits, ..self }
    }

    fn address(self) -> IpAddr {
        match u32::try_from(self.bits) {
            Ok(bits) if self.width == 32 => IpAddr::V4(Ipv4Addr::from(bits)),
            _ => IpAddr::V6(Ipv6Addr::from(self.bits)),
        }
    }

    fn written(self) -> String {
        format!("{}/{}", self.address(), self.length)
    }

    /// The `number`-th of the networks whose prefix is `more` bits longer.
    fn inner(self, more: i64, number: i128) -> Result<Self, Wrong> {
        let length = u32::try_from(more).ok().and_then(|more| self.length.checked_add(more));
        let Some(length) = length.filter(|length| *length <= self.width) else {
            return at(
                1,
                format!("there is no room for {more} bits more behind a prefix of {}", self.length),
            );
        };
        let (room, free) = (length - self.length, self.width - length);
        let number = u128::try_from(number).ok().filter(|number| room >= 128 || number >> room == 0);
        let Some(number) = number else { return at(2, format!("it does not fit into {room} bits")) };
        let shifted = if free >= 128 { 0 } else { number << free };
        Ok(Self { bits: self.bits | shifted, length, ..self })
    }
}

pub(super) fn host(call: &Call<'_>) -> Outcome {
    let network = Network::parse(call)?;
    let number = i128::from(call.whole(1)?);
    let free = network.width - network.length;
    let count = 1_u128.checked_shl(free);
    // Negative numbers count from the end.
    let number = match (u128::try_from(number), count) {
        (Ok(number), Some(count)) if number < count => Some(number),
        (Ok(number), None) => Some(number),
        (Err(_), Some(count)) => count.checked_sub(number.unsigned_abs()),
        (Err(_), None) => Some(0_u128.wrapping_sub(number.unsigned_abs())),
        (Ok(_), Some(_)) => None,
    };
    match number {
        Some(number) => {
            Ok(Value::text(Network { bits: network.bits | number, ..network }.address().to_string()))
        }
        None => at(1, format!("there is no such host in a prefix of {} bits", network.length)),
    }
}

pub(super) fn netmask(call: &Call<'_>) -> Outcome {
    let network = Network::parse(call)?;
    let mask =
        Network { bits: if network.width == 32 { u128::from(u32::MAX) } else { u128::MAX }, ..network };
    Ok(Value::text(mask.masked().address().to_string()))
}

pub(super) fn subnet(call: &Call<'_>) -> Outcome {
    let number = call.number(2).whole().unwrap_or(-1);
    Ok(Value::text(Network::parse(call)?.inner(call.whole(1)?, number)?.written()))
}

pub(super) fn subnets(call: &Call<'_>) -> Outcome {
    let network = Network::parse(call)?;
    // Where the next one may begin; beyond the end when there is nothing left.
    let mut next = Some(network.bits);
    let mut all = Vec::new();
    let last = match network.width - network.length {
        free if free >= 128 => u128::MAX,
        free => network.bits | ((1_u128 << free) - 1),
    };
    for argument in 1..call.args.len() {
        let more = call.whole(argument)?;
        let size = network.inner(more, 0).map_err(|wrong| Wrong { argument: Some(argument), ..wrong })?;
        let free = size.width - size.length;
        let one = 1_u128.checked_shl(free).unwrap_or(0);
        let aligned =
            next.and_then(|next| if one == 0 { Some(0) } else { next.checked_next_multiple_of(one) });
        let Some(bits) = aligned.filter(|bits| *bits <= last && one.wrapping_sub(1) <= last - bits) else {
            return at(argument, "there is no room left for it");
        };
        all.push(Network { bits, ..size }.written());
        next = bits.checked_add(one).filter(|_| one != 0);
    }
    Ok(Value::texts(all))
}
