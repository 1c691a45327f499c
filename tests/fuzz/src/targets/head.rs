use reseal::format::Action;
use reseal::format::dbesdk::{Head, MESSAGE_ID_BYTES};

/// Bytes of the commitment at a header's end.
const COMMITMENT_BYTES: usize = 32;

/// The bytes are a header: then they are the only ones that say what it says.
pub fn head(bytes: &[u8]) {
    let Ok(head) = Head::parse(bytes) else { return };
    let (_, commitment) = bytes.split_last_chunk::<COMMITMENT_BYTES>().expect("a header ends with its commitment");
    assert!(rendered(&head, commitment) == bytes, "two headers say the same");
    assert_eq!(head.recipients().count(), head.edks.len());
    for edk in &head.edks {
        let wrapped = edk.wrapped().map_or(&[][..], |wrapped| wrapped.ciphertext);
        assert!(edk.ciphertext.ends_with(wrapped));
    }
    drop((head.recipients_in_words(), format!("{head:?}")));
}

/// The same where only the list of encrypted data keys is hostile.
pub fn edks(list: &[u8]) {
    let before = [&[1, 0][..], &[7; MESSAGE_ID_BYTES], b"\0\x02es", &[0, 0]].concat();
    head(&[&before, list, &[9; COMMITMENT_BYTES]].concat());
}

/// A header's bytes, written anew from what was read.
#[must_use]
pub fn rendered(head: &Head, commitment: &[u8]) -> Vec<u8> {
    let mut out = vec![head.version, head.suite.flavor()];
    out.extend_from_slice(&head.message_id);
    let legend = head.legend.iter().map(|action| match action {
        Action::EncryptAndSign => b'e',
        Action::SignOnly => b's',
        Action::SignAndIncludeInEncryptionContext => b'c',
        Action::DoNothing => b'-',
    });
    prefixed(&legend.collect::<Vec<u8>>(), &mut out);
    out.extend(head.context.serialize().expect("it was read from 16-bit lengths"));
    out.push(u8::try_from(head.edks.len()).expect("it was read from an 8-bit count"));
    for edk in &head.edks {
        prefixed(edk.provider_id.as_bytes(), &mut out);
        prefixed(&edk.provider_info, &mut out);
        prefixed(&edk.ciphertext, &mut out);
    }
    out.extend_from_slice(commitment);
    out
}

fn prefixed(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&u16::try_from(bytes.len()).expect("it was read from a 16-bit length").to_be_bytes());
    out.extend_from_slice(bytes);
}
