//! Executables: small, valid, of any architecture.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    X86_64,
    Aarch64,
    I386,
    Arm,
}

/// A minimal valid, statically linked executable: the header, one PT_LOAD over the whole file,
/// and `payload`, which makes two of them differ.
pub fn elf(machine: Machine, payload: &[u8]) -> Vec<u8> {
    let (number, wide): (u16, bool) = match machine {
        Machine::X86_64 => (62, true),
        Machine::Aarch64 => (183, true),
        Machine::I386 => (3, false),
        Machine::Arm => (40, false),
    };
    let (header, segment): (u16, u16) = if wide { (64, 56) } else { (52, 32) };
    let load: u64 = 0x40_0000;
    let size = u64::from(header + segment) + payload.len() as u64;
    let mut file = Vec::new();
    // An address or offset is as wide as the class.
    let word = |file: &mut Vec<u8>, value: u64| {
        if wide { file.extend(value.to_le_bytes()) } else { file.extend((value as u32).to_le_bytes()) }
    };
    file.extend([0x7f, b'E', b'L', b'F', if wide { 2 } else { 1 }, 1, 1, 0]);
    file.extend([0; 8]);
    file.extend(2u16.to_le_bytes()); // ET_EXEC
    file.extend(number.to_le_bytes());
    file.extend(1u32.to_le_bytes());
    word(&mut file, load + u64::from(header + segment));
    word(&mut file, u64::from(header)); // the program headers follow at once
    word(&mut file, 0); // no sections
    file.extend(0u32.to_le_bytes());
    for value in [header, segment, 1, 0, 0, 0] {
        file.extend(value.to_le_bytes());
    }
    file.extend(1u32.to_le_bytes()); // PT_LOAD
    if wide {
        file.extend(5u32.to_le_bytes());
    }
    for value in [0, load, load, size, size] {
        word(&mut file, value);
    }
    if !wide {
        file.extend(5u32.to_le_bytes());
    }
    word(&mut file, 0x1000);
    file.extend(payload);
    file
}
