//! Which URL may be asked, and at which addresses: tables of what an attacker would try.

use std::net::{IpAddr, SocketAddr};

use calsync_core::destination::{Destination, Host, Origin, Reach, Refused, Rules, Scheme, reach};

/// What stands in a configuration where nobody touched it; with more hosts, so that only their form matters here.
fn usual(url: &str) -> Rules {
    Rules { origins: Origin::read(url).into_iter().collect(), allow_private_network: false }
}

fn for_tests(url: &str) -> Rules {
    Rules { allow_private_network: true, ..usual(url) }
}

fn refused(url: &str, rules: &Rules) -> Refused {
    match Destination::read(url, rules) {
        Err(refused) => refused,
        Ok(destination) => panic!("{url} would be asked as {destination}"),
    }
}

#[test]
fn a_hostile_url_is_refused_by_how_it_is_written() {
    let long_label = format!("https://{}.example", "a".repeat(64));
    let long_name = format!("https://{}example", "abcdefg.".repeat(32));
    let table = [
        ("", Refused::Scheme),
        ("www.googleapis.com", Refused::Scheme),
        ("//www.googleapis.com/", Refused::Scheme),
        ("https:/www.googleapis.com", Refused::Scheme),
        ("ftp://calendar.example/", Refused::Scheme),
        ("file:///etc/passwd", Refused::Scheme),
        ("gopher://calendar.example:6379/_FLUSHALL", Refused::Scheme),
        ("dict://calendar.example/", Refused::Scheme),
        ("javascript://calendar.example/", Refused::Scheme),
        ("httpss://calendar.example/", Refused::Scheme),
        (" https://calendar.example/", Refused::Characters),
        ("https://calendar.example/ ", Refused::Characters),
        ("https://calendar.example/\r\nHost: other.example", Refused::Characters),
        ("https://calendar.example/\t", Refused::Characters),
        ("https://calendar.example/\0", Refused::Characters),
        ("https://calendar.example\\@other.example/", Refused::Characters),
        ("https:\\\\calendar.example/", Refused::Characters),
        ("https://calendar.example/|", Refused::Characters),
        ("https://kalender.österreich.example/", Refused::Characters),
        ("https://①②⑦.⓪.⓪.①/", Refused::Characters),
        ("https://calendar。example/", Refused::Characters),
        ("https://calendar.example@other.example/", Refused::UserInfo),
        ("https://user:secret@calendar.example/", Refused::UserInfo),
        ("https://@calendar.example/", Refused::UserInfo),
        ("https://calendar.example#@other.example/", Refused::Fragment),
        ("https://calendar.example/#", Refused::Fragment),
        ("https://", Refused::Host),
        ("https:///etc/passwd", Refused::Host),
        ("https://:443/", Refused::Host),
        ("https://./", Refused::Host),
        ("https://calendar..example/", Refused::Host),
        ("https://calendar.example../", Refused::Host),
        ("https://.calendar.example/", Refused::Host),
        ("https://-calendar.example/", Refused::Host),
        ("https://calendar_service/", Refused::Host),
        ("https://%6c%6f%63%61%6c%68%6f%73%74/", Refused::Host),
        ("https://*/", Refused::Host),
        (&long_label, Refused::Host),
        (&long_name, Refused::Host),
        ("https://[::1", Refused::Host),
        ("https://[::1]evil.example/", Refused::Host),
        ("https://[fe80::1%25eth0]/", Refused::Host),
        ("https://[fe80::1%eth0]/", Refused::Host),
        ("https://[v1.fe80::a+en1]/", Refused::Host),
        ("https://[127.0.0.1]/", Refused::Host),
        ("https://::1/", Refused::Port),
        ("https://127.1/", Refused::DisguisedAddress),
        ("https://127.0.1/", Refused::DisguisedAddress),
        ("https://2130706433/", Refused::DisguisedAddress),
        ("https://0x7f000001/", Refused::DisguisedAddress),
        ("https://0x7f.0.0.1/", Refused::DisguisedAddress),
        ("https://0X7F.0.0.0X1/", Refused::DisguisedAddress),
        ("https://0177.0.0.1/", Refused::DisguisedAddress),
        ("https://127.0.0.01/", Refused::DisguisedAddress),
        ("https://127.0.0.1.1/", Refused::DisguisedAddress),
        ("https://256.256.256.256/", Refused::DisguisedAddress),
        ("https://calendar.example.0x/", Refused::DisguisedAddress),
        ("https://0/", Refused::DisguisedAddress),
        ("https://calendar.example:/", Refused::Port),
        ("https://calendar.example:0/", Refused::Port),
        ("https://calendar.example:22/", Refused::Port),
        ("https://calendar.example:25/", Refused::Port),
        ("https://calendar.example:80/", Refused::Port),
        ("https://calendar.example:+443/", Refused::Port),
        ("https://calendar.example:65536/", Refused::Port),
        ("https://calendar.example:443:443/", Refused::Port),
        ("https://calendar.example:443a/", Refused::Port),
        ("https://calendar.example/calendars/../events", Refused::DotSegments),
        ("https://calendar.example/calendars/%2e%2E/events", Refused::DotSegments),
        ("https://calendar.example/calendars/.%2e", Refused::DotSegments),
        ("https://calendar.example/./", Refused::DotSegments),
    ];
    for (url, wanted) in table {
        assert_eq!(refused(url, &usual(url)), wanted, "{url}");
        assert_eq!(refused(url, &for_tests(url)), wanted, "{url}, with the private network allowed");
    }
}

#[test]
fn a_hostile_address_is_refused_before_anything_is_looked_up() {
    let table = [
        ("https://127.0.0.1/", Refused::Private),
        ("https://127.0.0.1./", Refused::Private),
        ("https://127.255.255.254:8443/", Refused::Private),
        ("https://10.0.0.7/", Refused::Private),
        ("https://172.16.0.1/", Refused::Private),
        ("https://192.168.1.1/", Refused::Private),
        ("https://100.64.0.1/", Refused::Private),
        ("https://[::1]/", Refused::Private),
        ("https://[0:0:0:0:0:0:0:1]:8443/", Refused::Private),
        ("https://[fd12:3456:789a::1]/", Refused::Private),
        ("https://0.0.0.0/", Refused::Unreachable),
        ("https://169.254.169.254/latest/meta-data/iam/", Refused::Unreachable),
        ("https://[fd00:ec2::254]/latest/meta-data/", Refused::Unreachable),
        ("https://[::ffff:169.254.169.254]/", Refused::Unreachable),
        ("https://[::ffff:7f00:1]/", Refused::Unreachable),
        ("https://[::]/", Refused::Unreachable),
        ("https://255.255.255.255/", Refused::Unreachable),
        ("http://8.8.8.8/", Refused::PlainHttp),
        ("http://127.0.0.1/", Refused::PlainHttp),
        ("http://localhost:8080/", Refused::PlainHttp),
        ("http://www.googleapis.com/calendar/v3", Refused::PlainHttp),
    ];
    for (url, wanted) in table {
        assert_eq!(refused(url, &usual(url)), wanted, "{url}");
    }
}

#[test]
fn allowing_the_private_network_allows_neither_metadata_nor_plain_http_elsewhere() {
    let table = [
        ("https://169.254.169.254/", Refused::Unreachable),
        ("https://100.100.100.200/", Refused::Unreachable),
        ("https://[fd00:ec2::254]/", Refused::Unreachable),
        ("https://[fe80::1]/", Refused::Unreachable),
        ("http://169.254.169.254/", Refused::PlainHttp),
        ("http://10.0.0.7/", Refused::PlainHttp),
        ("http://[::ffff:127.0.0.1]/", Refused::PlainHttp),
        ("http://localhost.example/", Refused::PlainHttp),
        ("http://www.googleapis.com/", Refused::PlainHttp),
    ];
    for (url, wanted) in table {
        assert_eq!(refused(url, &for_tests(url)), wanted, "{url}");
    }
    for url in ["http://127.0.0.1:8080/", "http://[::1]:8080/", "http://localhost:8080/", "https://10.0.0.7/"] {
        assert!(Destination::read(url, &for_tests(url)).is_ok(), "{url}");
    }
}

#[test]
fn what_is_asked_is_written_anew_in_canonical_form() {
    let table = [
        ("https://www.googleapis.com/calendar/v3", "https://www.googleapis.com/calendar/v3"),
        ("HTTPS://WWW.GoogleAPIs.com:443", "https://www.googleapis.com/"),
        ("https://www.googleapis.com./token", "https://www.googleapis.com/token"),
        ("https://calendar.example:8443?a=b", "https://calendar.example:8443/?a=b"),
        (
            "https://xn--kalender-n4a.example/a%2Fb@c?q=%2e%2e/..",
            "https://xn--kalender-n4a.example/a%2Fb@c?q=%2e%2e/..",
        ),
        ("https://[2606:4700:0:0::1111]/", "https://[2606:4700::1111]/"),
        ("https://8.8.8.8/", "https://8.8.8.8/"),
        ("https://1e100.net/", "https://1e100.net/"),
    ];
    for (url, wanted) in table {
        let destination = Destination::read(url, &usual(url)).unwrap_or_else(|refused| panic!("{url}: {refused}"));
        assert_eq!(destination.to_string(), wanted, "{url}");
    }
}

#[test]
fn only_the_hosts_that_a_setting_names_are_asked() {
    let rules = usual("https://www.googleapis.com/calendar/v3");
    assert!(Destination::read("https://www.googleapis.com/calendar/v3/calendars/a/events", &rules).is_ok());
    for url in [
        "https://www.googleapis.com.evil.example/calendar/v3",
        "https://googleapis.com/calendar/v3",
        "https://www.googleapis.com:8443/calendar/v3",
        "https://8.8.8.8/calendar/v3",
    ] {
        assert_eq!(refused(url, &rules), Refused::OtherOrigin, "{url}");
    }
    assert_eq!(refused("https://www.googleapis.com/", &Rules::default()), Refused::OtherOrigin, "nothing is allowed");
}

#[test]
fn an_address_is_public_where_ianas_registries_say_so() {
    let table = [
        // The first and the last of each block, and its neighbours.
        (Reach::Never, "0.0.0.0 0.255.255.255"),
        (Reach::Public, "1.0.0.0 1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0"),
        (Reach::Private, "10.0.0.0 10.255.255.255"),
        (Reach::Public, "100.63.255.255 100.128.0.0"),
        (Reach::Private, "100.64.0.0 100.100.100.199 100.127.255.255"),
        (Reach::Public, "126.255.255.255 128.0.0.0"),
        (Reach::Private, "127.0.0.0 127.0.0.1 127.255.255.255"),
        (Reach::Public, "169.253.255.255 169.255.0.0"),
        (Reach::Never, "169.254.0.0 169.254.169.254 169.254.170.2 169.254.255.255"),
        (Reach::Public, "172.15.255.255 172.32.0.0"),
        (Reach::Private, "172.16.0.0 172.31.255.255"),
        (Reach::Never, "192.0.0.0 192.0.0.192 192.0.0.255 192.0.2.0 192.0.2.255 192.88.99.1"),
        (Reach::Public, "192.0.1.0 192.0.3.0 192.88.98.255 192.88.100.0"),
        (Reach::Public, "192.167.255.255 192.169.0.0"),
        (Reach::Private, "192.168.0.0 192.168.255.255"),
        (Reach::Public, "198.17.255.255 198.20.0.0 198.51.99.255 198.51.101.0"),
        (Reach::Never, "198.18.0.0 198.19.255.255 198.51.100.0 198.51.100.255"),
        (Reach::Public, "203.0.112.255 203.0.114.0 223.255.255.255"),
        (Reach::Never, "203.0.113.0 203.0.113.255 224.0.0.1 239.255.255.255 240.0.0.0 255.255.255.255"),
        (Reach::Never, "100.100.100.200 168.63.129.16"),
        (Reach::Private, "::1"),
        (Reach::Never, ":: ::2 ::127.0.0.1 ::8.8.8.8 ::ffff:127.0.0.1 ::ffff:8.8.8.8 ::ffff:0:8.8.8.8"),
        (Reach::Public, "64:ff9b::8.8.8.8"),
        (Reach::Never, "64:ff9b::168.63.129.16 fd00:ec2::23 fd00:42::42"),
        (Reach::Never, "64:ff9b::127.0.0.1 64:ff9b::10.0.0.1 64:ff9b::169.254.169.254 64:ff9b:0:1::8.8.8.8"),
        (Reach::Never, "64:ff9b:1::8.8.8.8 100::1 1fff:ffff::1"),
        (Reach::Never, "2001::1 2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:2::1 2001:10::1 2001:20::1 2001:1ff::1"),
        (Reach::Public, "2001:200::1 2001:4860:4860::8888 2606:4700:4700::1111 2a00:1450:4001:82a::200a"),
        (Reach::Never, "2001:db8::1 2001:db8:ffff::1 2002:7f00:1::1 2002:a00:1::1 2002:808:808::1"),
        (Reach::Never, "3fff::1 3fff:fff::1 4000::1 5f00::1"),
        (Reach::Private, "fc00::1 fd00::1 fdff:ffff::1"),
        (Reach::Never, "fd00:ec2::254 fd20:ce::254 fe00::1 fe80::1 febf::1 fec0::1 ff02::1 ff0e::1"),
    ];
    for (wanted, addresses) in table {
        for address in addresses.split(' ') {
            let parsed: IpAddr = address.parse().expect("an address");
            assert_eq!(reach(parsed), wanted, "{address}");
        }
    }
}

fn answers(addresses: &[&str]) -> Vec<SocketAddr> {
    addresses.iter().map(|address| SocketAddr::new(address.parse().expect("an address"), 443)).collect()
}

#[test]
fn of_public_and_private_answers_only_the_public_ones_are_asked() {
    let mixed = answers(&["127.0.0.1", "8.8.8.8", "::1", "169.254.169.254", "2001:4860:4860::8888", "10.0.0.1"]);
    let rules = Rules::default();

    let admitted = rules.admitted(Scheme::Https, mixed.clone());
    assert_eq!(admitted, Ok(answers(&["8.8.8.8", "2001:4860:4860::8888"])));

    let with_private = Rules { allow_private_network: true, ..Rules::default() }.admitted(Scheme::Https, mixed.clone());
    assert_eq!(with_private, Ok(answers(&["127.0.0.1", "8.8.8.8", "::1", "2001:4860:4860::8888", "10.0.0.1"])));

    let in_the_clear = Rules { allow_private_network: true, ..Rules::default() }.admitted(Scheme::Http, mixed);
    assert_eq!(in_the_clear, Ok(answers(&["127.0.0.1", "::1"])), "whatever localhost is said to be");
}

#[test]
fn a_name_without_an_allowed_address_is_refused_with_the_reason() {
    let rules = Rules::default();
    assert_eq!(rules.admitted(Scheme::Https, answers(&["127.0.0.1", "10.0.0.1"])), Err(Refused::Private));
    assert_eq!(rules.admitted(Scheme::Https, answers(&["169.254.169.254"])), Err(Refused::Unreachable));
    assert_eq!(rules.admitted(Scheme::Https, answers(&[])), Err(Refused::Unreachable));
    assert_eq!(rules.admitted(Scheme::Http, answers(&["8.8.8.8"])), Err(Refused::PlainHttp));
}

#[test]
fn every_name_for_this_machine_is_found_out_when_it_is_looked_up() {
    for url in
        ["https://localhost/", "https://LOCALHOST./", "https://a.localhost/", "https://metadata.google.internal/"]
    {
        let origin = Origin::read(url).expect("well written");
        assert!(matches!(origin.host, Host::Name(_)), "{url}");
        assert_eq!(Rules::default().admitted(origin.scheme, answers(&["127.0.0.1"])), Err(Refused::Private));
    }
}

#[test]
fn a_destination_in_a_log_shows_no_token() {
    let url = "https://www.googleapis.com/calendar/v3/calendars/a/events?syncToken=secret";
    let destination = Destination::read(url, &usual(url)).expect("allowed");

    assert_eq!(format!("{destination:?}"), "Destination(https://www.googleapis.com/calendar/v3/calendars/a/events)");
}
