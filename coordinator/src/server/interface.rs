//! `coordinator.interface`: where to listen, by the name of a network interface.

use std::collections::BTreeSet;

use settings::Listen;

use crate::failure::Failure;

/// `coordinator.listen`, with the address of `coordinator.interface` where it names one: the first IPv4 address, else
/// the first IPv6 address that is not of the link alone.
///
/// # Errors
/// If this host has no such interface, or it has no address.
pub fn address(listen: &Listen) -> Result<String, Failure> {
    let Some(name) = &listen.interface else { return Ok(listen.listen.clone()) };
    let all = if_addrs::get_if_addrs()
        .map_err(|e| Failure::other(format!("cannot list this host's network interfaces: {e}")))?;
    let own = all.iter().filter(|interface| interface.name == *name && !interface.is_link_local());
    let Some(ip) = own.map(if_addrs::Interface::ip).min_by_key(std::net::IpAddr::is_ipv6) else {
        let usable = all.iter().filter(|interface| !interface.is_link_local());
        let names: BTreeSet<&str> = usable.map(|interface| interface.name.as_str()).collect();
        return Err(Failure::input(format!(
            "coordinator.interface {name:?}: this host has no such interface with an address; expected one of {}",
            names.into_iter().collect::<Vec<_>>().join(", ")
        )));
    };
    let port = listen.listen.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(0);
    Ok(std::net::SocketAddr::new(ip, port).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(interface: Option<&str>) -> Listen {
        Listen { listen: "10.1.2.3:7700".into(), interface: interface.map(str::to_owned) }
    }

    #[test]
    fn an_interfaces_address_takes_the_place_of_the_one_that_is_listened_on() {
        assert_eq!(address(&listen(None)).expect("as it is"), "10.1.2.3:7700");
        assert_eq!(address(&listen(Some("lo"))).expect("every host has it"), "127.0.0.1:7700");
    }

    #[test]
    fn an_interface_that_is_not_there_is_told_with_those_that_are() {
        let failure = address(&listen(Some("eth77"))).expect_err("nobody has it");
        assert!(
            failure.message.contains("\"eth77\"") && failure.message.contains("lo"),
            "{}",
            failure.message
        );
        assert_eq!(failure.exit_code, 2);
    }
}
