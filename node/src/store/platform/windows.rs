//! Files of a home on NTFS: access lists, locks, and secrets that one account can read.

use std::{
    ffi::c_void,
    fs::{File, Metadata, OpenOptions, TryLockError},
    io,
    os::windows::{ffi::OsStrExt, fs::OpenOptionsExt, io::AsRawHandle},
    path::Path,
    ptr::{null, null_mut},
    thread,
    time::Duration,
};

use data_encoding::BASE64;
use windows_sys::Win32::{
    Foundation::{
        CloseHandle, ERROR_ACCESS_DENIED, ERROR_INVALID_FUNCTION, ERROR_INVALID_HANDLE,
        ERROR_IO_PENDING, ERROR_LOCK_VIOLATION, ERROR_SHARING_VIOLATION, ERROR_SUCCESS,
        GENERIC_WRITE, LocalFree,
    },
    Security::{
        ACCESS_ALLOWED_ACE, ACL,
        Authorization::{
            ConvertSidToStringSidW, ConvertStringSecurityDescriptorToSecurityDescriptorW,
            GetNamedSecurityInfoW, SDDL_REVISION_1, SE_FILE_OBJECT,
        },
        Cryptography::{
            CRYPT_INTEGER_BLOB, CRYPTPROTECT_UI_FORBIDDEN, CryptProtectData, CryptUnprotectData,
        },
        DACL_SECURITY_INFORMATION, EqualSid, GetAce, GetTokenInformation, IsWellKnownSid,
        OWNER_SECURITY_INFORMATION, PSECURITY_DESCRIPTOR, PSID, SECURITY_ATTRIBUTES, TOKEN_QUERY,
        TOKEN_USER, TokenUser, WinAuthenticatedUserSid, WinBuiltinAdministratorsSid,
        WinBuiltinUsersSid, WinLocalSystemSid, WinWorldSid,
    },
    Storage::FileSystem::{
        CreateDirectoryW, DELETE, FILE_ADD_FILE, FILE_ADD_SUBDIRECTORY, FILE_DELETE_CHILD,
        FILE_FLAG_BACKUP_SEMANTICS, FILE_FLAG_OPEN_REPARSE_POINT, LOCKFILE_EXCLUSIVE_LOCK,
        LOCKFILE_FAIL_IMMEDIATELY, LockFileEx, WRITE_DAC, WRITE_OWNER,
    },
    System::{
        IO::{OVERLAPPED, OVERLAPPED_0, OVERLAPPED_0_0},
        Threading::{GetCurrentProcess, OpenProcessToken},
    },
};

use super::{Owner, Zeroizing};

/// How often a step is taken again that another program stands in the way of, and the pause.
const TRIES: u32 = 25;
const PAUSE: Duration = Duration::from_millis(20);
/// The first line of a file that is sealed for one account, by DPAPI. Base64 follows.
const SEALED: &[u8] = b"hark-account 1\n";
/// `ACCESS_ALLOWED_ACE_TYPE` (winnt.h).
const ALLOWED: u8 = 0;

/// NTFS writes names to its journal in their order. Flushing the folder waits for it.
pub(super) fn sync_names(folder: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.access_mode(GENERIC_WRITE).custom_flags(FILE_FLAG_BACKUP_SEMANTICS);
    match options.open(folder).and_then(|folder| folder.sync_all()) {
        // Other file systems, and folders that are not ours, cannot be flushed.
        Err(error) if is(&error, &[ERROR_INVALID_FUNCTION, ERROR_INVALID_HANDLE]) => Ok(()),
        synced => synced,
    }
}

pub(super) fn insist<T>(step: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let busy = [ERROR_ACCESS_DENIED, ERROR_SHARING_VIOLATION, ERROR_LOCK_VIOLATION];
    for _ in 0..TRIES {
        match step() {
            Err(error) if is(&error, &busy) => thread::sleep(PAUSE),
            done => return done,
        }
    }
    step()
}

fn is(error: &io::Error, codes: &[u32]) -> bool {
    error.raw_os_error().is_some_and(|code| codes.contains(&code.cast_unsigned()))
}

/// Locks a byte that no text reaches: a lock of Windows keeps others from reading what it covers.
pub(super) fn try_lock(file: &File) -> Result<(), TryLockError> {
    let mut place = OVERLAPPED {
        Anonymous: OVERLAPPED_0 { Anonymous: OVERLAPPED_0_0 { Offset: 0, OffsetHigh: 1 << 30 } },
        ..OVERLAPPED::default()
    };
    let flags = LOCKFILE_EXCLUSIVE_LOCK | LOCKFILE_FAIL_IMMEDIATELY;
    // SAFETY: the handle is open, and since the file is not opened for overlapped use, the call
    // returns only when it no longer needs the place.
    let locked = unsafe { LockFileEx(file.as_raw_handle(), flags, 0, 1, 0, &raw mut place) };
    if locked != 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    if is(&error, &[ERROR_LOCK_VIOLATION, ERROR_IO_PENDING]) {
        return Err(TryLockError::WouldBlock);
    }
    Err(TryLockError::Error(error))
}

// What is made in a folder takes over the folder's access list.
pub(super) fn private(_: &mut OpenOptions) {}

pub(super) fn no_link(options: &mut OpenOptions) {
    options.custom_flags(FILE_FLAG_OPEN_REPARSE_POINT);
}

// Only in folders of others does this matter, and there a file of another account is not writable.
pub(super) fn is_own(_: &Metadata) -> bool {
    true
}

/// Creates a folder with an access list of its own: this account, and the system.
pub(super) fn create_private_folder(path: &Path) -> io::Result<()> {
    let own = Account::own()?.text()?;
    let wanted = format!("D:P(A;OICI;FA;;;{own})(A;OICI;FA;;;SY)");
    let mut descriptor = Local(null_mut());
    // SAFETY: the text ends with zero, and the place of the answer is valid.
    let told = unsafe {
        ConvertStringSecurityDescriptorToSecurityDescriptorW(
            wide(wanted.as_ref()).as_ptr(),
            SDDL_REVISION_1,
            &raw mut descriptor.0,
            null_mut(),
        )
    };
    done(told)?;
    let attributes = SECURITY_ATTRIBUTES {
        nLength: size_of::<SECURITY_ATTRIBUTES>() as u32,
        lpSecurityDescriptor: descriptor.0,
        bInheritHandle: 0,
    };
    // SAFETY: the path ends with zero, and the descriptor lives until the call returns.
    done(unsafe { CreateDirectoryW(wide(path.as_os_str()).as_ptr(), &raw const attributes) })
}

pub(super) fn owner(folder: &Path) -> io::Result<Owner> {
    let (mut owner, mut list): (PSID, *mut ACL) = (null_mut(), null_mut());
    let mut descriptor = Local(null_mut());
    // SAFETY: the path ends with zero, and all places are valid. Owner and list point into the
    // descriptor, which is freed at the end.
    let status = unsafe {
        GetNamedSecurityInfoW(
            wide(folder.as_os_str()).as_ptr(),
            SE_FILE_OBJECT,
            OWNER_SECURITY_INFORMATION | DACL_SECURITY_INFORMATION,
            &raw mut owner,
            null_mut(),
            &raw mut list,
            null_mut(),
            &raw mut descriptor.0,
        )
    };
    if status != ERROR_SUCCESS {
        return Err(io::Error::from_raw_os_error(status.cast_signed()));
    }
    let own = Account::own()?;
    // SAFETY: both are valid while `own` and `descriptor` live. The administrators can do anything
    // anyway, and own what they make.
    let is_own = unsafe {
        EqualSid(owner, own.sid()) != 0
            || IsWellKnownSid(owner, WinBuiltinAdministratorsSid) != 0
            || IsWellKnownSid(owner, WinLocalSystemSid) != 0
    };
    Ok(match is_own {
        false => Owner::Other,
        // A folder without a list lets everybody in.
        true if list.is_null() || others_write(list) => Owner::Shared,
        true => Owner::Own,
    })
}

/// Whether an access list lets all accounts, or all people of the machine, write.
fn others_write(list: *const ACL) -> bool {
    let write = FILE_ADD_FILE
        | FILE_ADD_SUBDIRECTORY
        | FILE_DELETE_CHILD
        | DELETE
        | WRITE_DAC
        | WRITE_OWNER
        | GENERIC_WRITE;
    // SAFETY: the list is valid, as the system has told it.
    let count = unsafe { (*list).AceCount };
    (0..u32::from(count)).any(|index| {
        let mut entry: *mut c_void = null_mut();
        // SAFETY: the list is valid, and so is the place of the answer.
        if unsafe { GetAce(list, index, &raw mut entry) } == 0 {
            return false;
        }
        let entry = entry.cast::<ACCESS_ALLOWED_ACE>();
        // SAFETY: each entry starts with a header, and one that allows has this form.
        let (kind, mask, sid) = unsafe {
            ((*entry).Header.AceType, (*entry).Mask, (&raw mut (*entry).SidStart).cast())
        };
        let many = [WinWorldSid, WinAuthenticatedUserSid, WinBuiltinUsersSid];
        // SAFETY: the account follows the mask in an entry that allows.
        let of_many = || many.iter().any(|it| unsafe { IsWellKnownSid(sid, *it) != 0 });
        kind == ALLOWED && mask & write != 0 && of_many()
    })
}

/// The account that runs this process.
struct Account {
    /// A `TOKEN_USER` and what it points to, aligned for it.
    told: Vec<u64>,
}

impl Account {
    fn own() -> io::Result<Self> {
        let mut token = null_mut();
        // SAFETY: the pseudo handle of this process needs no closing, and the place is valid.
        done(unsafe { OpenProcessToken(GetCurrentProcess(), TOKEN_QUERY, &raw mut token) })?;
        // An account is at most 68 bytes long, after a pointer and flags.
        let mut told = vec![0_u64; 32];
        let (room, mut length) = ((told.len() * size_of::<u64>()) as u32, 0);
        // SAFETY: the room is as long as is told, and the token is open until it is closed here.
        let answered = unsafe {
            let place = told.as_mut_ptr().cast();
            let answered = GetTokenInformation(token, TokenUser, place, room, &raw mut length);
            CloseHandle(token);
            answered
        };
        done(answered).map(|()| Self { told })
    }

    fn sid(&self) -> PSID {
        // SAFETY: the system has written a `TOKEN_USER` there, which points into the same room.
        unsafe { (*self.told.as_ptr().cast::<TOKEN_USER>()).User.Sid }
    }

    /// The account's text, such as `S-1-5-21-…-1001`.
    fn text(&self) -> io::Result<String> {
        let mut text: *mut u16 = null_mut();
        // SAFETY: the account is valid, and so is the place of the answer.
        done(unsafe { ConvertSidToStringSidW(self.sid(), &raw mut text) })?;
        let owned = Local(text.cast());
        // SAFETY: the text ends with zero, and is freed after it was copied.
        let length = (0..).take_while(|at| unsafe { *text.add(*at) } != 0).count();
        // SAFETY: as above.
        let copied = String::from_utf16_lossy(unsafe { std::slice::from_raw_parts(text, length) });
        drop(owned);
        Ok(copied)
    }
}

pub(super) fn seal_for_account(bytes: &[u8]) -> io::Result<Zeroizing<Vec<u8>>> {
    let given = blob(bytes);
    let mut sealed = Blob(CRYPT_INTEGER_BLOB { cbData: 0, pbData: null_mut() });
    // SAFETY: the given bytes live until the call returns, and the place of the answer is valid.
    done(unsafe {
        CryptProtectData(
            &raw const given,
            null(),
            null(),
            null(),
            null(),
            CRYPTPROTECT_UI_FORBIDDEN,
            &raw mut sealed.0,
        )
    })?;
    Ok(Zeroizing::new([SEALED, BASE64.encode(sealed.bytes()).as_bytes(), b"\n"].concat()))
}

pub(super) fn open_for_account(bytes: Zeroizing<Vec<u8>>) -> io::Result<Zeroizing<Vec<u8>>> {
    let Some(text) = bytes.strip_prefix(SEALED) else { return Ok(bytes) };
    let sealed = BASE64.decode(text.trim_ascii_end()).map_err(io::Error::other)?;
    let given = blob(&sealed);
    let mut opened = Blob(CRYPT_INTEGER_BLOB { cbData: 0, pbData: null_mut() });
    // SAFETY: as above.
    let answered = unsafe {
        CryptUnprotectData(
            &raw const given,
            null_mut(),
            null(),
            null(),
            null(),
            CRYPTPROTECT_UI_FORBIDDEN,
            &raw mut opened.0,
        )
    };
    if answered == 0 {
        let reason = "only the account and the machine that wrote it can read it";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, reason));
    }
    Ok(Zeroizing::new(opened.bytes().to_vec()))
}

fn blob(bytes: &[u8]) -> CRYPT_INTEGER_BLOB {
    CRYPT_INTEGER_BLOB { cbData: bytes.len() as u32, pbData: bytes.as_ptr().cast_mut() }
}

/// Bytes that the system has allocated. They are wiped before they are freed.
struct Blob(CRYPT_INTEGER_BLOB);

impl Blob {
    fn bytes(&self) -> &[u8] {
        if self.0.pbData.is_null() {
            return &[];
        }
        // SAFETY: the system has told address and length, and frees nothing by itself.
        unsafe { std::slice::from_raw_parts(self.0.pbData, self.0.cbData as usize) }
    }
}

impl Drop for Blob {
    fn drop(&mut self) {
        if !self.0.pbData.is_null() {
            // SAFETY: as above, and nobody else uses the bytes.
            let bytes =
                unsafe { std::slice::from_raw_parts_mut(self.0.pbData, self.0.cbData as usize) };
            zeroize::Zeroize::zeroize(bytes);
            // SAFETY: the system asks for this call once the bytes are no longer needed.
            unsafe { LocalFree(self.0.pbData.cast()) };
        }
    }
}

/// What the system has allocated and asks to be freed.
struct Local(PSECURITY_DESCRIPTOR);

impl Drop for Local {
    fn drop(&mut self) {
        // SAFETY: the system has allocated it for this call, or it is null.
        unsafe { LocalFree(self.0) };
    }
}

fn wide(text: &std::ffi::OsStr) -> Vec<u16> {
    text.encode_wide().chain([0]).collect()
}

fn done(answer: i32) -> io::Result<()> {
    if answer == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_by_the_account_that_wrote_it() {
        let sealed = seal_for_account(b"a secret").expect("sealed");
        assert!(sealed.starts_with(SEALED) && !sealed.windows(6).any(|it| it == b"secret"));
        assert_eq!(&**open_for_account(sealed).expect("opened"), b"a secret");
        let foreign = Zeroizing::new([SEALED, b"AQAAAA==\n"].concat());
        assert!(open_for_account(foreign).is_err(), "no seal of this account");
        let plain = Zeroizing::new(b"-----BEGIN".to_vec());
        assert_eq!(&**open_for_account(plain).expect("as it is"), b"-----BEGIN");
    }

    #[test]
    fn a_lock_lets_others_read_who_holds_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lock");
        std::fs::write(&path, "4711").expect("written");
        let open = || OpenOptions::new().read(true).write(true).open(&path).expect("opened");
        let held = open();
        try_lock(&held).expect("the first one holds it");
        assert!(matches!(try_lock(&open()), Err(TryLockError::WouldBlock)));
        assert_eq!(std::fs::read_to_string(&path).expect("read"), "4711");
        drop(held);
        try_lock(&open()).expect("free again");
    }

    #[test]
    fn a_folder_of_ours_is_for_this_account() {
        let folder = tempfile::tempdir().expect("a folder");
        let own = folder.path().join("own");
        create_private_folder(&own).expect("made");
        assert_eq!(owner(&own).expect("told"), Owner::Own);
        std::fs::write(own.join("file"), "text").expect("written");
        sync_names(&own).expect("synced");
    }
}
