//! A rustls that makes a connection for each line on standard input.
//!
//!     client HOST PORT CA VERSION DIR [early]

use std::io::{self, BufRead, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, Stream};

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let (host, port, ca, version) = (&args[1], &args[2], &args[3], &args[4]);
    let mut roots = RootCertStore::empty();
    for c in CertificateDer::pem_file_iter(ca).expect("the CA is not readable") {
        roots.add(c.expect("the CA is not PEM")).expect("the CA is no certificate");
    }
    let versions = match version.as_str() {
        "1.2" => vec![&TLS12],
        "1.3" => vec![&TLS13],
        _ => vec![&TLS13, &TLS12],
    };
    let mut config = ClientConfig::builder_with_protocol_versions(&versions)
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.enable_early_data = args.get(6).is_some_and(|a| a == "early");
    let config = Arc::new(config); // it holds the sessions
    for _ in io::stdin().lock().lines() {
        match visit(&config, host, port) {
            Ok(()) => println!("ok"),
            Err(e) => println!("error: {e}"),
        }
        io::stdout().flush().expect("nobody reads this");
    }
}

fn visit(config: &Arc<ClientConfig>, host: &str, port: &str) -> io::Result<()> {
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let mut tls = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
    let mut tcp = TcpStream::connect(format!("127.0.0.1:{port}"))?;
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let mut early = false;
    if let Some(mut e) = tls.early_data() {
        e.write_all(request.as_bytes())?;
        early = true;
    }
    while early && tls.is_handshaking() {
        tls.complete_io(&mut tcp)?;
    }
    let accepted = early && tls.is_early_data_accepted();
    let mut stream = Stream::new(&mut tls, &mut tcp);
    if !accepted {
        stream.write_all(request.as_bytes())?;
    }
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(e) if answer.is_empty() => return Err(e),
        _ => {} // a server may leave out close_notify
    }
    if !answer.starts_with(b"HTTP/1.1 200") {
        return Err(io::Error::other(String::from_utf8_lossy(&answer[..answer.len().min(60)])));
    }
    Ok(())
}
