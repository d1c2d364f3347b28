//! TLS fails while a secret is under way: before it could be sent, in the middle of it, or only where the token goes that it
//! was exchanged for. Nothing that the server shows or writes down tells of it.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::thread;

use calsync_integration::markers::{
    assert_clean, assert_nothing_shows, everything_shown_to, needles, shapes, talkative,
};
use calsync_integration::{ServiceAccountKey, Stranger, World, authority, eventually};
use fake_google::{Authority, FakeGoogle, Identity};

struct Story {
    world: World,
    key: ServiceAccountKey,
    needles: Vec<String>,
}

/// Which of the two that are asked is meant, and how many shapes of secrets go there, or what they were exchanged for.
#[derive(Debug, Clone, Copy)]
enum Asked {
    TokenUrl,
    Calendars,
}

impl Asked {
    /// Where it is from now on.
    fn setting(self, url: &str) -> String {
        match self {
            Asked::TokenUrl => format!("calsync.google_token_url = '{url}/token'"),
            Asked::Calendars => format!("calsync.google_api_url = '{url}/calendar/v3'"),
        }
    }

    fn shapes(self) -> i64 {
        match self {
            Asked::TokenUrl => 4,
            Asked::Calendars => 6,
        }
    }
}

impl Story {
    fn begin() -> Self {
        let mut world = talkative(&[]);
        let key = ServiceAccountKey::generate("robot@project.example");
        world.google.register_key(&key.email, key.public_key.clone());
        for (name, secret) in shapes(&key) {
            world.add_credential(name, &secret);
            world.others(&[&format!("{name}@x")], Some(name));
        }
        let needles = needles(&key);
        Story { world, key, needles }
    }

    /// Whoever asks there fails for this reason, a regular expression; what is shown meanwhile is clean.
    fn fails(&mut self, asked: Asked, url: &str, reason: &str) {
        let here = [Asked::TokenUrl, Asked::Calendars].map(|other| other.setting(&self.world.google.api_url()));
        self.world.cluster.reconfigure(&asked.setting(url));
        // Replaced, they are tried anew, with a token of their own.
        for (name, secret) in shapes(&self.key) {
            self.world.add_credential(name, &secret);
        }
        self.world.sql.batch_execute("UPDATE calsync.subscription SET last_error = NULL").expect("forgotten");
        let failed = format!("SELECT count(*) FROM calsync.subscription WHERE last_error ~ '{reason}'");
        eventually(&format!("{asked:?}: {reason}"), || {
            // The worker may have fetched a token just before it read the setting.
            self.world.google.expire_access_tokens();
            self.world.sql.batch_execute("SELECT calsync_sync()").expect("due");
            self.world.count(&failed) == asked.shapes()
        });
        assert_clean("a table", &everything_shown_to(&mut self.world.sql), &self.needles);
        self.world.cluster.reconfigure(&here.join("\n"));
    }
}

#[test]
fn no_secret_is_shown_where_a_certificate_is_not_good() {
    let mut story = Story::begin();
    for asked in [Asked::TokenUrl, Asked::Calendars] {
        let bad = [
            (Identity::self_signed(&["localhost"]), "TLS failed: invalid peer certificate: "),
            (Authority::new().certify(&["localhost"]), "TLS failed: invalid peer certificate: "),
            (
                authority().certify_for_the_past(&["localhost"]),
                "TLS failed: invalid peer certificate: certificate expired",
            ),
            (authority().certify(&["other.example"]), "TLS failed: invalid peer certificate: certificate not valid"),
        ];
        for (identity, reason) in bad {
            let impostor = FakeGoogle::start_tls(&identity);

            story.fails(asked, &impostor.api_url(), reason);

            assert!(impostor.log().is_empty(), "asked although: {reason}");
        }
    }
    assert!(!story.world.token_requests().is_empty(), "tokens were granted by the one that is good");
    assert_nothing_shows(&story.world, &story.needles);
}

/// What becomes of the connection when half of what carries the secret has passed.
#[derive(Debug, Clone, Copy)]
enum End {
    Closed,
    /// A fatal alert that nobody who holds the keys has sent.
    Alert,
    /// What no key opens.
    Noise,
    Silence,
}

impl End {
    fn come_over(self, client: &mut TcpStream) -> io::Result<()> {
        match self {
            End::Closed => Ok(()),
            End::Alert => client.write_all(&[21, 3, 3, 0, 2, 2, 80]),
            End::Noise => client.write_all(&[&[23, 3, 3, 0, 64][..], &[7; 64]].concat()),
            End::Silence => loop {
                if client.read(&mut [0; 1024])? == 0 {
                    return Ok(());
                }
            },
        }
    }

    fn reason(self) -> &'static str {
        match self {
            End::Closed => "could not be reached: (peer closed connection|Connection reset)",
            End::Alert | End::Noise => "TLS failed",
            End::Silence => "did not answer in time",
        }
    }
}

/// Passes on what comes, record by record (RFC 8446 §5.1), until the client's `nth` record of application data, of which
/// half passes. The first is the end of its handshake.
fn broken_off(google: &FakeGoogle, nth: usize, end: End) -> Stranger {
    let port: u16 = google.api_url().rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    Stranger::meeting(move |client| {
        let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        let (mut answers, mut answered) = (server.try_clone()?, client.try_clone()?);
        let back = thread::spawn(move || io::copy(&mut answers, &mut answered).map(drop));
        let mut carried = 0;
        loop {
            let mut head = [0; 5];
            client.read_exact(&mut head)?;
            let mut record = vec![0; u16::from_be_bytes([head[3], head[4]]).into()];
            client.read_exact(&mut record)?;
            carried += usize::from(head[0] == 23);
            server.write_all(&head)?;
            if carried == nth {
                server.write_all(&record[..record.len() / 2])?;
                end.come_over(client)?;
                client.shutdown(Shutdown::Both)?;
                server.shutdown(Shutdown::Both)?;
                let _ = back.join();
                return Ok(());
            }
            server.write_all(&record)?;
        }
    })
}

#[test]
fn no_secret_is_shown_where_tls_breaks_off_in_the_middle_of_it() {
    let mut story = Story::begin();
    for end in [End::Closed, End::Alert, End::Noise, End::Silence] {
        // The header with the token, the header of the form, and the form itself, with the secret.
        for (asked, nth) in [(Asked::Calendars, 2), (Asked::TokenUrl, 2), (Asked::TokenUrl, 3)] {
            let between = broken_off(&story.world.google, nth, end);

            story.fails(asked, &format!("https://localhost:{}", between.addr().port()), end.reason());
        }
    }
    assert_nothing_shows(&story.world, &story.needles);
}
