//! A capture of the packets to and from addresses of this machine, whoever sends them, by `tcpdump`.

use std::io::{BufRead, BufReader, Read};
use std::net::Ipv4Addr;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::{Context, bail};
use parking_lot::Mutex;
use tokio::net::UdpSocket;

use crate::program::installed;
use crate::wait::eventually;

/// What a packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// A datagram, such as those of QUIC.
    Udp,
    /// Part of a TCP connection, such as those of HTTPS.
    Tcp,
    /// Anything else, such as the answer that nobody listens at a port.
    Other,
}

/// One packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The sender's address; the port is 0 if the protocol has none.
    pub from: (Ipv4Addr, u16),
    /// The receiver's address.
    pub to: (Ipv4Addr, u16),
    /// What it carries.
    pub protocol: Protocol,
}

impl Packet {
    /// Reads a line such as `IP 127.0.0.1.40000 > 127.0.0.2.4710: UDP, length 1200`.
    fn read(line: &str) -> Option<Self> {
        let (from, rest) = line.strip_prefix("IP ")?.split_once(" > ")?;
        let (to, what) = rest.split_once(": ")?;
        let protocol = match what {
            udp if udp.starts_with("UDP") => Protocol::Udp,
            tcp if tcp.starts_with("tcp") => Protocol::Tcp,
            _ => Protocol::Other,
        };
        Some(Self { from: endpoint(from)?, to: endpoint(to)?, protocol })
    }
}

/// Reads `127.0.0.1.40000`, or `127.0.0.1` without a port.
fn endpoint(text: &str) -> Option<(Ipv4Addr, u16)> {
    if let Ok(address) = text.parse() {
        return Some((address, 0));
    }
    let (address, port) = text.rsplit_once('.')?;
    Some((address.parse().ok()?, port.parse().ok()?))
}

/// A capture that runs. Dropping it ends it.
#[derive(Debug)]
pub struct Capture {
    tcpdump: Child,
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
    /// What it says about itself.
    report: BufReader<ChildStderr>,
    /// One of the addresses.
    address: Ipv4Addr,
}

impl Capture {
    /// Begins to capture all packets to and from these addresses of the loopback interface.
    ///
    /// # Errors
    /// `tcpdump` is not installed, or may not capture; the message says what to do.
    ///
    /// # Panics
    /// There is no address.
    pub fn start(addresses: &[Ipv4Addr]) -> anyhow::Result<Self> {
        let address = *addresses.first().expect("an address");
        let program = installed("tcpdump").context("tcpdump is not installed here: `apt-get install tcpdump`")?;
        let hosts: Vec<String> = addresses.iter().map(|address| format!("host {address}")).collect();
        let mut tcpdump = Command::new(program)
            .args(["-i", "lo", "-nn", "-q", "-t", "-l", "--immediate-mode", "-B", "16384"])
            .arg(hosts.join(" or "))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("tcpdump cannot be run")?;
        let (stdout, stderr) = (tcpdump.stdout.take().context("no stdout")?, tcpdump.stderr.take());
        let mut report = BufReader::new(stderr.context("no stderr")?);
        let mut said = String::new();
        while !said.lines().any(|line| line.starts_with("listening on")) {
            if report.read_line(&mut said)? == 0 {
                tcpdump.wait()?;
                bail!(
                    "tcpdump may not capture packets here. Run the tests as root, or allow it once: \
                     sudo setcap cap_net_raw+ep \"$(command -v tcpdump)\". It says: {said}"
                );
            }
        }
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let captured = Arc::clone(&lines);
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                captured.lock().push(line);
            }
        });
        Ok(Self { tcpdump, lines, reader: Some(reader), report, address })
    }

    /// Returns the packets that were sent until now, in their order.
    ///
    /// # Panics
    /// The capture has ended, or has a line that is no packet.
    pub async fn packets(&self) -> Vec<Packet> {
        // When this packet is there, so are all that were sent before it.
        let last = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = last.local_addr().unwrap().port();
        last.send_to(b"!", (self.address, 9)).await.unwrap();
        let start = format!("IP 127.0.0.1.{port} > ");
        let found = eventually("the capture goes on", async || {
            let lines = self.lines.lock();
            let end = lines.iter().position(|line| line.starts_with(&start))?;
            Some(lines.iter().take(end).cloned().collect::<Vec<_>>())
        });
        let read = |line: &String| Packet::read(line).unwrap_or_else(|| panic!("tcpdump says {line:?}"));
        // Those of earlier calls do not count, nor do the answers that nobody listens there.
        let is_other = |packet: &Packet| packet.from.0 == self.address && packet.protocol == Protocol::Other;
        let is_own = |packet: &Packet| packet.to == (self.address, 9) || is_other(packet);
        found.await.iter().map(read).filter(|packet| !is_own(packet)).collect()
    }

    /// Ends the capture, and returns how many packets it has missed.
    ///
    /// # Errors
    /// `tcpdump` does not say it.
    pub fn end(mut self) -> anyhow::Result<u64> {
        Command::new("kill").arg("-INT").arg(self.tcpdump.id().to_string()).status()?;
        let mut said = String::new();
        self.report.read_to_string(&mut said)?;
        let missed = said.lines().find_map(|line| line.strip_suffix(" packets dropped by kernel"));
        Ok(missed.with_context(|| said.clone())?.parse()?)
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.tcpdump.kill();
        let _ = self.tcpdump.wait();
        let _ = self.reader.take().map(JoinHandle::join);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_read_from_a_line() {
        let packet = |from: (&str, u16), to: (&str, u16), protocol| {
            Some(Packet { from: (from.0.parse().unwrap(), from.1), to: (to.0.parse().unwrap(), to.1), protocol })
        };
        for (line, expected) in [
            (
                "IP 127.0.0.1.40000 > 127.9.0.2.4710: UDP, length 1200",
                packet(("127.0.0.1", 40_000), ("127.9.0.2", 4_710), Protocol::Udp),
            ),
            ("IP 127.9.0.2.80 > 127.0.0.1.33: tcp 0", packet(("127.9.0.2", 80), ("127.0.0.1", 33), Protocol::Tcp)),
            (
                "IP 127.9.0.2 > 127.0.0.1: ICMP 127.9.0.2 udp port 9 unreachable, length 37",
                packet(("127.9.0.2", 0), ("127.0.0.1", 0), Protocol::Other),
            ),
            ("IP6 ::1.1 > ::1.2: UDP, length 1", None),
            ("IP 127.0.0.1.x > 127.9.0.2.1: UDP, length 1", None),
        ] {
            assert_eq!(Packet::read(line), expected, "{line}");
        }
    }
}
