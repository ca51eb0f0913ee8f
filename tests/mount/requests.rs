//! How requests travel, and what goes with each: encryption, the bucket's owner, who pays; through a proxy, over TLS.

use crate::support::World;
use crate::support::issuer::Issuer;
use crate::support::mount::Mount;
use crate::support::ran::Ran;
use crate::support::relay::{Issued, Kind};
use crate::support::seaweed::{ACCESS_KEY, SECRET_KEY};
use crate::support::world::Host;
use crate::work::{noise, write_closed};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

fn started<'w>(host: &Host<'w>, command: Command) -> Mount<'w> {
    host.start(command).unwrap_or_else(|ran| panic!("the mount did not start: {ran}"))
}

/// Work with requests of many kinds.
fn work(mount: &Mount) {
    write_closed(&mount.path("small"), b"x").expect("write");
    write_closed(&mount.path("large"), &noise(12 << 20, 3)).expect("write");
    mount.publish();
    fs::rename(mount.path("small"), mount.path("moved")).expect("rename");
    fs::remove_file(mount.path("large")).expect("unlink");
    mount.publish();
}

#[test]
fn each_request_says_whose_bucket_it_is_who_pays_and_what_is_made_how_it_is_encrypted() {
    let world = World::with_relay("requests-extra");
    let extra = ["--sse=AES256", "--expected-bucket-owner=111122223333", "--requester-pays"];
    let mount = world.host("a").mount(&extra);
    work(&mount);
    mount.unmount();
    let mut made = 0;
    for seen in world.relay().seen() {
        let request = seen.request;
        let amz = |name: &str| request.amz.get(name).map(String::as_str);
        assert_eq!(amz("x-amz-expected-bucket-owner"), Some("111122223333"), "{request:?}");
        assert_eq!(amz("x-amz-request-payer"), Some("requester"), "{request:?}");
        let makes = matches!(request.kind, Kind::Put | Kind::Copy | Kind::CreateMultipart);
        assert_eq!(amz("x-amz-server-side-encryption"), makes.then_some("AES256"), "{request:?}");
        made += usize::from(makes);
    }
    assert!(made > 5, "{made} objects were made");
    // Encrypted or not, it comes back elsewhere.
    let mount = world.host("b").mount(&["--sse-kms-key-id=arn:aws:kms:us-east-1:1:key/k", "--read-only"]);
    assert_eq!(fs::read(mount.path("moved")).expect("read"), b"x");
    mount.unmount();
}

#[test]
fn the_store_is_reached_through_the_proxy_of_the_environment() {
    let world = World::with_relay("requests-proxy");
    let host = world.host("a");
    // No name server knows it: only a proxy can reach it.
    let endpoint = "http://store.invalid:8333";
    let mut command = host.mount_command(&["--endpoint", endpoint]);
    command.env("HTTP_PROXY", world.relay().endpoint());
    let mount = started(&host, command);
    work(&mount);
    assert!(world.relay().seen().len() > 10, "requests went through the proxy");
    mount.unmount();
    assert_eq!(world.witness.text("moved"), "x");
    let mut command = host.mount_command(&["--endpoint", endpoint, "--timeout", "2s"]);
    command.env("HTTP_PROXY", world.relay().endpoint()).env("NO_PROXY", "store.invalid");
    Ran::of(&mut command).exits(6).says(&["store.invalid"]);
}

/// Makes an authority, and a certificate of it for 127.0.0.1.
const CERTIFICATES: &str = r#"
    new="openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
    $new -x509 -days 2 -subj /CN=authority -keyout ca.key -out ca.pem
    $new -subj /CN=store -keyout key.pem -out request.pem
    echo subjectAltName=IP:127.0.0.1 > names
    openssl x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out cert.pem
"#;

/// Speaks TLS on a port of its own, which it prints, and passes on what comes to the port it is given.
const TUNNEL: &str = r#"
import socket, ssl, sys, threading
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("cert.pem", "key.pem")
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
def pump(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass
    for end in (source, sink):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
def serve(client):
    try:
        client = context.wrap_socket(client, server_side=True)
    except OSError:
        return
    store = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    threading.Thread(target=pump, args=(client, store), daemon=True).start()
    pump(store, client)
while True:
    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
"#;

struct Tunnel {
    child: Child,
    endpoint: String,
}

impl Tunnel {
    fn start(dir: &Path, endpoint: &str) -> Tunnel {
        let port = endpoint.rsplit_once(':').expect("an endpoint with a port").1;
        let mut command = Command::new("python3");
        let spawned = command.args(["-c", TUNNEL, port]).current_dir(dir).stdout(Stdio::piped()).spawn();
        let mut child = spawned.expect("python3 starts");
        let mut told = String::new();
        let out = child.stdout.take().expect("it is piped");
        BufReader::new(out).read_line(&mut told).expect("it tells its port");
        Tunnel { child, endpoint: format!("https://127.0.0.1:{}", told.trim()) }
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        // It may have died.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn tls_needs_a_certificate_that_is_trusted() {
    let world = World::new("requests-tls");
    let dir = world.local("tls");
    Ran::of(Command::new("bash").args(["-ec", CERTIFICATES]).current_dir(&dir)).ok();
    let tunnel = Tunnel::start(&dir, world.endpoint());
    let host = world.host("a");
    let mount_command =
        |options: &[&str]| host.mount_command(&[&["--endpoint", tunnel.endpoint.as_str()], options].concat());
    Ran::of(&mut mount_command(&["--timeout", "2s"])).exits(6).says(&["ertificate"]);
    let mut command = mount_command(&[]);
    command.env("AWS_CA_BUNDLE", dir.join("ca.pem"));
    let mount = started(&host, command);
    work(&mount);
    mount.unmount();
    assert_eq!(world.witness.text("moved"), "x");
    let mut command = mount_command(&[]);
    Ran::of(command.env("AWS_CA_BUNDLE", dir.join("absent.pem")))
        .exits(5)
        .says(&["AWS_CA_BUNDLE", "absent.pem"]);
}

/// Where credentials come from is asked as the store is: over TLS that is trusted.
#[test]
fn so_needs_it_who_gives_out_credentials() {
    let world = World::with_relay("requests-sts");
    let (dir, host) = (world.local("tls"), world.host("a"));
    Ran::of(Command::new("bash").args(["-ec", CERTIFICATES]).current_dir(&dir)).ok();
    let ends = Some(SystemTime::now() + Duration::from_secs(3600));
    let keys = Issued { id: "KEY".into(), secret: "secret".into(), token: Some("session".into()), ends };
    world.relay().guard(std::slice::from_ref(&keys), (ACCESS_KEY, SECRET_KEY));
    let issuer = Issuer::start("token", &keys);
    let tunnel = Tunnel::start(&dir, &issuer.endpoint());
    fs::write(dir.join("token"), "token").expect("write");
    let mount_command = |options: &[&str]| {
        let mut command = host.mount_command(options);
        command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
        command.env("AWS_WEB_IDENTITY_TOKEN_FILE", dir.join("token"));
        command
            .env("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/r")
            .env("AWS_ENDPOINT_URL_STS", &tunnel.endpoint);
        command
    };
    let refused = Ran::of(&mut mount_command(&["--timeout", "20s"]));
    refused.exits(6).says(&["credentials cannot be had", "ertificate"]).plainly();
    let mut command = mount_command(&[]);
    command.env("AWS_CA_BUNDLE", dir.join("ca.pem"));
    started(&host, command).unmount();
}
