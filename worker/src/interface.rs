//! The network interface that NCCL's connections are bound to: NCCL is told a name, and the host file gives an address.

use std::net::IpAddr;

use crate::failure::Failure;

/// The name of this host's interface with `address`, an IP address or a name of this host.
///
/// # Errors
/// If no interface of this host has it.
pub fn of(address: &str) -> Result<String, Failure> {
    let all = if_addrs::get_if_addrs()
        .map_err(|e| Failure::other(format!("cannot list this host's network interfaces: {e}")))?;
    let wanted = addresses(address)?;
    // A name may stand for an address of the loopback too, which other hosts cannot reach.
    let (loopback, others): (Vec<IpAddr>, _) = wanted.into_iter().partition(IpAddr::is_loopback);
    let found = all.iter().find(|interface| others.contains(&interface.ip()));
    // All of 127.0.0.0/8 is the loopback's, which lists one address of it.
    let lo = all.iter().find(|interface| !loopback.is_empty() && interface.is_loopback());
    found.or(lo).map(|interface| interface.name.clone()).ok_or_else(|| {
        let own = all.iter().map(|interface| format!("{} ({})", interface.ip(), interface.name));
        Failure::input(format!(
            "--address {address}: no network interface of this host has it; expected one of {}",
            own.collect::<Vec<_>>().join(", ")
        ))
    })
}

fn addresses(address: &str) -> Result<Vec<IpAddr>, Failure> {
    use std::net::ToSocketAddrs as _;
    let found = (address, 0)
        .to_socket_addrs()
        .map_err(|e| Failure::input(format!("--address {address}: {e}; expected an address of this host")))?;
    Ok(found.map(|address| address.ip()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_the_name_of_its_interface() {
        assert_eq!(of("127.0.0.1").expect("every host has it"), "lo");
        assert_eq!(of("localhost").expect("every host has it"), "lo");
        // What Debian gives a host's own name where it has no fixed address.
        assert_eq!(of("127.0.1.1").expect("every host has it"), "lo");
    }

    #[test]
    fn an_address_of_another_host_is_told_with_those_of_this_one() {
        let failure = of("203.0.113.9").expect_err("it is for documentation alone");
        assert!(failure.message.contains("127.0.0.1 (lo)"), "{}", failure.message);
        assert_eq!(failure.exit_code, 2);
    }
}
