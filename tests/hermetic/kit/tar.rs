//! Archives, honest and hostile.

use super::elf::{Machine, elf};

/// One member of an honest archive; a name that ends in `/` is a directory.
#[derive(Clone, Debug)]
pub struct Member {
    pub name: String,
    pub mode: u32,
    pub uid: u64,
    pub bytes: Vec<u8>,
}

impl Member {
    pub fn file(name: &str, mode: u32, bytes: &[u8]) -> Member {
        Member { name: name.to_owned(), mode, uid: 0, bytes: bytes.to_owned() }
    }

    pub fn dir(name: &str) -> Member {
        Member::file(name, 0o755, b"")
    }

    /// An amd64 executable whose content is unique to its name.
    pub fn plugin(name: &str) -> Member {
        Member::file(name, 0o755, &elf(Machine::X86_64, name.as_bytes()))
    }

    pub fn uid(mut self, uid: u64) -> Member {
        self.uid = uid;
        self
    }

    pub fn mode(mut self, mode: u32) -> Member {
        self.mode = mode;
        self
    }
}

/// An honest archive with its end marker.
pub fn tar(members: &[Member]) -> Vec<u8> {
    members.iter().fold(Tar::new(), |tar, member| tar.member(member)).end()
}

/// An archive written block by block: nothing is checked, so anything can be said.
#[derive(Clone, Default)]
pub struct Tar(Vec<u8>);

impl Tar {
    pub fn new() -> Tar {
        Tar::default()
    }

    pub fn members(self, members: &[Member]) -> Tar {
        members.iter().fold(self, Tar::member)
    }

    pub fn member(self, member: &Member) -> Tar {
        let kind = if member.name.ends_with('/') { b'5' } else { b'0' };
        let header = Header::new(kind, member.name.as_bytes()).mode(member.mode).uid(member.uid);
        self.entry(header.size(member.bytes.len() as u64), &member.bytes)
    }

    /// The header exactly as given, then the data padded to the block, whatever the header says.
    pub fn entry(mut self, header: Header, data: &[u8]) -> Tar {
        self.0.extend(header.sealed());
        self.data(data)
    }

    pub fn data(mut self, data: &[u8]) -> Tar {
        self.0.extend(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    /// A PAX `x` record for the next entry.
    pub fn pax(self, records: &[(&str, &[u8])]) -> Tar {
        let data: Vec<u8> = records.iter().flat_map(|(key, value)| pax_record(key, value)).collect();
        self.entry(Header::new(b'x', b"PaxHeaders/0").size(data.len() as u64), &data)
    }

    /// A GNU `L` record: the name of the next entry.
    pub fn long_name(self, name: &[u8]) -> Tar {
        let data = [name, b"\0"].concat();
        self.entry(Header::new(b'L', b"././@LongLink").gnu().size(data.len() as u64), &data)
    }

    pub fn zero_blocks(mut self, count: usize) -> Tar {
        self.0.resize(self.0.len() + count * 512, 0);
        self
    }

    pub fn end(self) -> Vec<u8> {
        self.zero_blocks(2).bytes()
    }

    /// As it stands, without an end marker.
    pub fn bytes(self) -> Vec<u8> {
        self.0
    }
}

/// `"LENGTH KEY=VALUE\n"`, where the length counts its own digits.
fn pax_record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = 1 + key.len() + 1 + value.len() + 1;
    let length = (1..=9).map(|digits| rest + digits).find(|all| all.to_string().len() == all - rest).unwrap();
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

/// One 512-byte header; the checksum is computed last.
#[derive(Clone)]
pub struct Header(pub [u8; 512]);

impl Header {
    /// A ustar header with mode 0755, owner 0 and size 0; `name` fills the field as it is.
    pub fn new(kind: u8, name: &[u8]) -> Header {
        let mut header = Header([0; 512]);
        header.put(0, 100, name);
        header.0[156] = kind;
        header.0[257..265].copy_from_slice(b"ustar\x0000");
        header.mode(0o755).uid(0).gid(0).size(0).octal(136, 12, 0)
    }

    pub fn mode(self, mode: u32) -> Header {
        self.octal(100, 8, mode.into())
    }

    pub fn uid(self, uid: u64) -> Header {
        self.octal(108, 8, uid)
    }

    pub fn gid(self, gid: u64) -> Header {
        self.octal(116, 8, gid)
    }

    /// In octal where it fits, else in GNU's base 256.
    pub fn size(mut self, size: u64) -> Header {
        if size < 1 << 33 {
            return self.octal(124, 12, size);
        }
        self.0[124] = 0x80;
        self.0[125..128].fill(0);
        self.0[128..136].copy_from_slice(&size.to_be_bytes());
        self
    }

    pub fn link(mut self, target: &[u8]) -> Header {
        self.put(157, 100, target);
        self
    }

    pub fn gnu(mut self) -> Header {
        self.0[257..265].copy_from_slice(b"ustar  \0");
        self
    }

    /// Any field, by offset.
    pub fn raw(mut self, offset: usize, bytes: &[u8]) -> Header {
        self.0[offset..offset + bytes.len()].copy_from_slice(bytes);
        self
    }

    pub fn octal(mut self, offset: usize, width: usize, value: u64) -> Header {
        let text = format!("{value:0digits$o}\0", digits = width - 1);
        self.0[offset..offset + width].copy_from_slice(text.as_bytes());
        self
    }

    fn put(&mut self, offset: usize, width: usize, bytes: &[u8]) {
        assert!(bytes.len() <= width, "{} bytes in a field of {width}", bytes.len());
        self.0[offset..offset + width].fill(0);
        self.0[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    fn sealed(mut self) -> [u8; 512] {
        self.0[148..156].fill(b' ');
        let sum: u64 = self.0.iter().map(|byte| u64::from(*byte)).sum();
        self.0[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0
    }
}
