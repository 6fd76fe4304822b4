//! Host files as people write them, and what is said when they are wrong.

use std::path::Path;

use settings::{DeviceKind, Error, Launcher, load_hosts, parse_hosts};

fn complaints(text: &str) -> Vec<String> {
    match parse_hosts("hosts.yaml", text) {
        Err(Error::Wrong(problems)) => problems.iter().map(ToString::to_string).collect(),
        other => panic!("expected problems, got {other:?}"),
    }
}

#[test]
fn the_host_files_that_come_with_the_program_are_good() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/hosts");
    let local = load_hosts(folder.join("local.yaml")).expect("local.yaml");
    assert_eq!((local.launcher, local.world_size(), local.hosts[0].threads), (Launcher::Local, 2, 1));
    assert_eq!((local.coordinator.listen.as_str(), local.hosts[0].device), ("127.0.0.1:0", DeviceKind::Cpu));
    let external = load_hosts(folder.join("external.yaml")).expect("external.yaml");
    assert_eq!(external.launcher, Launcher::External);
    let ssh = load_hosts(folder.join("ssh.yaml")).expect("ssh.yaml");
    assert_eq!((ssh.launcher, ssh.world_size()), (Launcher::Ssh, 16));
    let slurm = load_hosts(folder.join("slurm.yaml")).expect("slurm.yaml");
    assert_eq!((slurm.launcher, slurm.slurm.gpus_per_node), (Launcher::Slurm, 8));
}

#[test]
fn an_unknown_key_is_refused_with_its_line_and_the_nearest_known_one() {
    let text =
        "launcher: local\nhosts:\n  - name: a\n    workers: 1\n    threads: 1\n    addres: x\n    gpu: 1\n";
    let said = complaints(text);
    assert!(
        said[0].starts_with("hosts.yaml:6: unknown key \"addres\", did you mean \"address\"?"),
        "{said:#?}"
    );
    assert!(said[1].starts_with("hosts.yaml:7: unknown key \"gpu\", did you mean \"device\"?"), "{said:#?}");
}

#[test]
fn an_interface_may_be_named_in_place_of_an_address() {
    let text = "launcher: ssh\ncoordinator: { interface: eth0 }\nhosts: [{ name: a, address: 10.0.0.9, workers: 1 }]\n";
    let hosts = parse_hosts("h", text).expect("what is listened on is not the loopback of the default");
    assert_eq!(hosts.coordinator.interface.as_deref(), Some("eth0"));
}

#[test]
fn ranges_are_said_where_the_value_stands() {
    let text = "launcher: local\ncoordinator: { listen: '7777' }\nhosts:\n  - { name: a, workers: 0 }\n  - { name: a, workers: 4000000000, address: '' }\n";
    let said = complaints(text);
    let expected = [
        "hosts.yaml:2: coordinator.listen \"7777\" must be host:port",
        "hosts.yaml:4: hosts.0.workers 0 must be at least 1",
        "hosts.yaml:5: hosts.1.name \"a\" must be unique in its list",
        "hosts.yaml:5: hosts.1.address \"\" must be a host name or IP address",
        "hosts.yaml:5: hosts.1.workers 4000000000 must be at most 4096 with the hosts before it",
    ];
    assert_eq!(said.len(), expected.len(), "{said:#?}");
    for (said, expected) in said.iter().zip(expected) {
        assert!(said.starts_with(expected), "{said}\n{expected}");
    }
    assert_eq!(complaints("launcher: local\nhosts: []\n"), ["hosts.yaml:2: hosts 0 must be at least 1"]);
    assert_eq!(complaints("launcher: local\n"), ["hosts.yaml: hosts 0 must be at least 1"]);
}

#[test]
fn environments_take_any_variable() {
    let hosts =
        parse_hosts("h", "launcher: local\nhosts: [{name: a, workers: 1, environment: {A.B: '1', c: x}}]\n")
            .expect("a good file");
    assert_eq!(hosts.hosts[0].environment.get("A.B").map(String::as_str), Some("1"));
    assert!(
        complaints("launcher: local\nhosts: [{name: a, workers: 1, environment: {A: 1}}]")[0]
            .contains("expected text")
    );
}

#[test]
fn slurm_may_leave_the_hosts_to_the_allocation_and_ssh_must_be_reachable() {
    let text = "launcher: slurm\nslurm: { partition: gpu, time: '1-00:00:00', gpus_per_node: 8, nodes: 4, extra: ['--account=x'] }\n";
    let hosts = parse_hosts("h", text).expect("a good file");
    assert_eq!((hosts.launcher, hosts.hosts.len(), hosts.slurm.nodes), (Launcher::Slurm, 0, 4));
    assert_eq!(hosts.slurm.extra, ["--account=x"]);
    let text = "launcher: ssh\nhosts:\n  - { name: a, workers: 1, user: me, address: 10.0.0.2 }\n";
    assert!(
        complaints(text)[0]
            .contains("\"127.0.0.1:0\" must be an address of this host that host \"a\" (10.0.0.2)"),
        "{:?}",
        complaints(text)
    );
    let text = "launcher: ssh\nhosts: [{ name: a, workers: 1, user: -oProxyCommand=x, address: '-x' }]\n";
    let said = complaints(text);
    assert!(said.iter().any(|s| s.contains("must be the name of a user")), "{said:?}");
    assert!(said.iter().any(|s| s.contains("must be a host name or IP address")), "{said:?}");
    assert!(complaints("launcher: slurm\nslurm: { extra: [\"a\\nb\"] }\n")[0].contains("on one line"));
}

#[test]
fn what_guards_a_run_is_read_and_an_empty_path_is_refused() {
    let text = "launcher: local\nhosts: [{ name: a, workers: 1 }]\n";
    let hosts =
        parse_hosts("hosts.yaml", &format!("{text}security: {{ certificates: keys, token_file: t }}"));
    let security = hosts.expect("a host file").security;
    assert_eq!(security.certificates.as_deref(), Some(Path::new("keys")));
    assert_eq!(security.token_file.as_deref(), Some(Path::new("t")));
    assert_eq!(
        complaints(&format!("{text}security: {{ token_file: '' }}")),
        ["hosts.yaml:3: security.token_file \"\" must be a file that holds the join token"]
    );
}
