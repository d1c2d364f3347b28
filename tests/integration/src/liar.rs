//! A libc that lies to the extension, so that its real code panics: see `liar.c`.

use std::process::Command;

use tempfile::TempDir;

use crate::cluster::new_home;

/// For the environment of a server; honest until it is told otherwise.
pub struct Liar {
    home: TempDir,
}

/// What is lied about.
#[derive(Debug, Clone, Copy)]
pub enum Lie {
    /// To whatever speaks to this port, of how much was sent.
    Sent { port: u16 },
    /// To this process, once, of how much was read.
    Read { pid: i32 },
    /// To this process: there is no clock.
    Clock { pid: i32 },
}

impl Liar {
    /// # Panics
    /// Where there is no C compiler; nor would there be the extension.
    pub fn new() -> Self {
        let home = new_home();
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/liar.c");
        let library = home.path().join("liar.so");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]).arg(&library).arg(source).arg("-ldl");
        assert!(compiler.status().expect("cc runs").success(), "{source} does not compile");
        Liar { home }
    }

    pub fn environment(&self) -> [(String, String); 2] {
        let home = self.home.path().display();
        [("LD_PRELOAD".to_owned(), format!("{home}/liar.so")), ("CALSYNC_LIES".to_owned(), home.to_string())]
    }

    pub fn tell(&self, lie: Lie) {
        let (name, number) = lie.file();
        let path = self.home.path().join(name);
        let whole = path.with_extension("new");
        // At once: the server reads it at any time.
        std::fs::write(&whole, number.to_string()).expect("writable");
        std::fs::rename(&whole, &path).expect("in place");
    }

    pub fn take_back(&self, lie: Lie) {
        std::fs::remove_file(self.home.path().join(lie.file().0)).expect("it was told");
    }
}

impl Default for Liar {
    fn default() -> Self {
        Self::new()
    }
}

impl Lie {
    fn file(self) -> (&'static str, i64) {
        match self {
            Lie::Sent { port } => ("send", port.into()),
            Lie::Read { pid } => ("read", pid.into()),
            Lie::Clock { pid } => ("clock_gettime", pid.into()),
        }
    }
}
