//! Servers and clients that several tests use.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use pf_load::client::{self, Report};
use pf_load::flood;
use pf_load::lab::{ATTACKER, Background, CLIENT, Lab, SERVER, Setup, run};
use pf_load::netns;
use pf_load::packet::Kind;
use pf_load::serve::{Counters, Role, Server};
use pf_netns::{at, output_of, wait_until};

/// Passes everything, statefully.
pub const PASS: &str = "pass\n";
/// Answers every SYN with a cookie.
pub const COOKIES: &str = "set syncookies always (no-probe)\npass\n";

/// Both addresses of the server, as they stand in a URL.
pub fn server_hosts() -> [String; 2] {
    [SERVER.v4(), format!("[{}]", SERVER.v6())]
}

/// A lab with these rules.
pub fn lab(rules: &str) -> Lab {
    lab_with(&Setup { rules, ..Setup::default() })
}

/// A lab.
pub fn lab_with(setup: &Setup<'_>) -> Lab {
    Lab::start(setup).unwrap_or_else(|error| panic!("{error}"))
}

/// nginx in the server's namespace, with a file of random octets, that file's SHA-256, and a small
/// file.
pub struct Nginx {
    _process: Background,
    pub sha256: String,
}

impl Nginx {
    /// Serves `/file` of this length.
    pub fn start(lab: &Lab, mebibytes: u32) -> Self {
        let folder = lab.folder().join("nginx");
        fs::create_dir_all(folder.join("www")).unwrap();
        let shown = folder.display();
        let configuration = format!(
            "daemon off;\nuser root;\nworker_processes 1;\npid {shown}/pid;\nerror_log {shown}/error.log;\n\
             events {{ worker_connections 1024; }}\nhttp {{\n  access_log off;\n  sendfile on;\n  \
             client_body_temp_path {shown}/1;\n  proxy_temp_path {shown}/2;\n  \
             fastcgi_temp_path {shown}/3;\n  uwsgi_temp_path {shown}/4;\n  scgi_temp_path {shown}/5;\n  \
             server {{ listen 80; listen [::]:80; root {shown}/www; }}\n}}\n"
        );
        fs::write(folder.join("nginx.conf"), configuration).unwrap();
        let file = folder.join("www/file");
        fs::write(folder.join("www/small"), [b'x'; 100]).unwrap();
        let script = format!(
            "head -c {mebibytes}M /dev/urandom > {0} && sha256sum < {0} | cut -d' ' -f1",
            file.display()
        );
        let sha256 = output_of(std::process::Command::new("sh").args(["-c", &script]), 60);
        let mut command = lab.command(SERVER, "nginx");
        command.arg("-c").arg(folder.join("nginx.conf")).arg("-e").arg(folder.join("error.log"));
        let process = Background::start(command, &folder.join("log")).unwrap();
        wait_for_port(80);
        Self { _process: process, sha256: sha256.trim().to_owned() }
    }
}

/// Fetches nginx's file from the client's namespace and returns its SHA-256.
pub fn fetch(lab: &Lab, host: &str, options: &str) -> String {
    let script =
        format!("set -o pipefail; curl -sS --fail -m 100 {options} http://{host}/file | sha256sum");
    let mut command = lab.command(CLIENT, "bash");
    command.args(["-c", &script]);
    output_of(&mut command, 110).split_whitespace().next().unwrap_or_default().to_owned()
}

/// Waits until the server's namespace listens on a TCP port.
pub fn wait_for_port(port: u16) {
    let wanted = format!(":{port:04X} ");
    wait_until("a listening socket", Duration::from_secs(10), || {
        at(SERVER, || {
            ["tcp", "tcp6"].iter().any(|table| {
                let path = format!("/proc/thread-self/net/{table}");
                fs::read_to_string(path).unwrap_or_default().lines().any(|line| {
                    let mut words = line.split_whitespace().skip(1);
                    let local = words.next().unwrap_or_default();
                    format!("{local} ").ends_with(&wanted) && words.nth(1) == Some("0A")
                })
            })
        })
    });
}

/// The web server of the load tools on ports 80 of both families, until dropped.
pub struct Web {
    stop: Arc<AtomicBool>,
    serving: Option<thread::JoinHandle<Counters>>,
}

impl Web {
    /// Starts it.
    pub fn start(role: Role) -> Self {
        let addresses: Vec<SocketAddr> =
            server_hosts().iter().map(|host| format!("{host}:80").parse().unwrap()).collect();
        let server = at(SERVER, || Server::bind(&addresses, role).unwrap());
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        // The sockets stay in the namespace in which they were made.
        let serving =
            Some(thread::spawn(move || server.run(&told, Duration::from_secs(160)).unwrap()));
        Self { stop, serving }
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.serving.take().map(thread::JoinHandle::join);
    }
}

/// Honest requests to a host of [`server_hosts`].
pub fn requests(host: &str, rate: Option<f64>, count: u64) -> client::Options {
    let server: SocketAddr = format!("{host}:80").parse().unwrap();
    let sources = (1..=32_u8).map(|step| {
        let text = if server.is_ipv4() {
            format!("10.77.1.{}", 128 + step)
        } else {
            format!("fd77:1::1:{step}")
        };
        text.parse::<IpAddr>().unwrap()
    });
    client::Options {
        server,
        path: "/".to_owned(),
        sources: sources.collect(),
        concurrent: 64,
        rate,
        timeout: Duration::from_secs(5),
        duration: Duration::from_mins(1),
        count: Some(count),
        interval: Duration::from_secs(1),
    }
}

/// Makes requests and returns what came of them.
pub fn ask(options: &client::Options) -> Report {
    at(CLIENT, || client::run(options, &AtomicBool::new(false), |_| {}).unwrap())
}

/// Floods the server's port 80 from the attacker's namespace.
pub fn flood(rate: u64, duration: Duration, v6: bool) -> flood::Summary {
    let options = flood::Options {
        kind: Kind::Syn,
        interface: ATTACKER.interface.to_owned(),
        next_hop: None,
        destination: if v6 { SERVER.v6() } else { SERVER.v4() }.parse().unwrap(),
        port: 80,
        sources: if v6 { "2001:db8:7::/48" } else { "198.18.0.0/15" }.parse().unwrap(),
        rate,
        duration,
        flows: None,
        udp_length: 0,
        seed: 7,
    };
    netns::enter(ATTACKER.namespace).unwrap();
    flood::run(&options, &AtomicBool::new(false), &AtomicU64::new(0)).unwrap()
}

/// Runs the iperf3 server once and the client with these options; the client's JSON.
pub fn iperf(lab: &Lab, host: &str, options: &[&str]) -> serde_json::Value {
    let mut server = lab.command(SERVER, "iperf3");
    server.args(["-s", "-1"]);
    let mut server = Background::start(server, &lab.folder().join("iperf3.log")).unwrap();
    wait_for_port(5201);
    let mut client = lab.command(CLIENT, "iperf3");
    client.args(["-J", "-c", host]).args(options);
    let output = run(&mut client, Duration::from_secs(40)).unwrap();
    server.wait(Duration::from_secs(5));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "iperf3: {text}{}", server.log());
    serde_json::from_str(&text).unwrap()
}
