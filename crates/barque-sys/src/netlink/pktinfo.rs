//! Datagrams with the local address they were sent to, so that an answer can come from it.
//!
//! A socket bound to every address of a machine otherwise answers from the address the routing
//! table prefers, which a client that asked another one does not accept.

use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};

/// A datagram received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Bytes in the buffer.
    pub length: usize,
    pub from: SocketAddr,
    /// The address of this machine it was sent to; `None` if the kernel did not say.
    pub to: Option<IpAddr>,
}

/// Room for one control message of either family, aligned as the kernel's macros expect.
#[repr(C, align(8))]
struct Control([u8; 64]);

/// Asks for the destination address of every datagram. `v6`: the socket is of family AF_INET6.
pub fn enable(socket: BorrowedFd<'_>, v6: bool) -> io::Result<()> {
    let (level, option) =
        if v6 { (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO) } else { (libc::IPPROTO_IP, libc::IP_PKTINFO) };
    let on: libc::c_int = 1;
    // SAFETY: the value lives through the call and its size is given.
    let status = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Receives a datagram without waiting. A longer one than `buf` is cut.
pub fn receive(socket: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<Datagram> {
    let mut storage = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let mut control = Control([0; 64]);
    let mut iov = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
    // SAFETY: an all-zero msghdr is valid.
    let mut header: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    header.msg_name = storage.as_mut_ptr().cast();
    header.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    header.msg_iov = &raw mut iov;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = control.0.len() as _;
    // SAFETY: all pointers in the header are to live, writable memory of the sizes given.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_DONTWAIT) };
    if length < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: zeroed at first, then written by the kernel; every bit pattern is a valid sockaddr_storage.
    let from = address(unsafe { storage.assume_init_ref() })?;
    Ok(Datagram { length: length as usize, from, to: destination(&header) })
}

fn address(storage: &libc::sockaddr_storage) -> io::Result<SocketAddr> {
    match i32::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that the storage, which is large and aligned enough, holds this type.
            let v4 = unsafe { &*std::ptr::from_ref(storage).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
            Ok(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let v6 = unsafe { &*std::ptr::from_ref(storage).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            Ok(SocketAddrV6::new(ip, u16::from_be(v6.sin6_port), v6.sin6_flowinfo, v6.sin6_scope_id).into())
        }
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn destination(header: &libc::msghdr) -> Option<IpAddr> {
    // SAFETY: the kernel has set the header's control length to what it wrote.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !next.is_null() {
        // SAFETY: not null, so a complete control header within the buffer.
        let cmsg = unsafe { &*next };
        // SAFETY: data follows its header.
        let data = unsafe { libc::CMSG_DATA(next) };
        match (cmsg.cmsg_level, cmsg.cmsg_type) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                // SAFETY: level and type say what the data is.
                let info = unsafe { data.cast::<libc::in_pktinfo>().read_unaligned() };
                return Some(Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr)).into());
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                // SAFETY: as above.
                let info = unsafe { data.cast::<libc::in6_pktinfo>().read_unaligned() };
                return Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into());
            }
            _ => {}
        }
        // SAFETY: `next` is a control header of this message.
        next = unsafe { libc::CMSG_NXTHDR(header, next) };
    }
    None
}

/// Sends a datagram to `to`, from the local address `from` if given, without waiting.
/// `from` is of the socket's family (IPv4 addresses of an IPv6 socket are mapped ones).
pub fn send(socket: BorrowedFd<'_>, data: &[u8], to: SocketAddr, from: Option<IpAddr>) -> io::Result<usize> {
    let mut storage = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let name_length = write_address(&mut storage, to);
    let mut control = Control([0; 64]);
    let mut iov = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
    // SAFETY: an all-zero msghdr is valid.
    let mut header: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    header.msg_name = storage.as_mut_ptr().cast();
    header.msg_namelen = name_length;
    header.msg_iov = &raw mut iov;
    header.msg_iovlen = 1;
    if let Some(ip) = from {
        header.msg_control = control.0.as_mut_ptr().cast();
        header.msg_controllen = write_source(&mut control, ip) as _;
    }
    // SAFETY: all pointers in the header are to live memory of the sizes given; the kernel only reads it.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(sent as usize) }
}

fn write_address(storage: &mut MaybeUninit<libc::sockaddr_storage>, to: SocketAddr) -> libc::socklen_t {
    match to {
        SocketAddr::V4(v4) => {
            let address = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from(*v4.ip()).to_be() },
                sin_zero: [0; 8],
            };
            // SAFETY: the storage is larger and at least as aligned.
            unsafe { storage.as_mut_ptr().cast::<libc::sockaddr_in>().write(address) };
            size_of::<libc::sockaddr_in>() as libc::socklen_t
        }
        SocketAddr::V6(v6) => {
            let address = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            };
            // SAFETY: as above.
            unsafe { storage.as_mut_ptr().cast::<libc::sockaddr_in6>().write(address) };
            size_of::<libc::sockaddr_in6>() as libc::socklen_t
        }
    }
}

/// Writes the control message that names the source; returns its length with padding.
fn write_source(control: &mut Control, ip: IpAddr) -> usize {
    let any = libc::in_addr { s_addr: 0 };
    match ip {
        IpAddr::V4(v4) => {
            let source = libc::in_addr { s_addr: u32::from(v4).to_be() };
            let info = libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: source, ipi_addr: any };
            write_control(control, libc::IPPROTO_IP, libc::IP_PKTINFO, info)
        }
        IpAddr::V6(v6) => {
            let info = libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: v6.octets() }, ipi6_ifindex: 0 };
            write_control(control, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info)
        }
    }
}

fn write_control<T>(control: &mut Control, level: libc::c_int, kind: libc::c_int, value: T) -> usize {
    let size = size_of::<T>() as u32;
    // SAFETY: both are computations on the size only.
    let (length, space) = unsafe { (libc::CMSG_LEN(size), libc::CMSG_SPACE(size)) };
    assert!(space as usize <= control.0.len());
    let header = control.0.as_mut_ptr().cast::<libc::cmsghdr>();
    // SAFETY: the buffer is zeroed, aligned, and holds `space` bytes: the header and the value after it.
    unsafe {
        (*header).cmsg_len = length as _;
        (*header).cmsg_level = level;
        (*header).cmsg_type = kind;
        libc::CMSG_DATA(header).cast::<T>().write_unaligned(value);
    }
    space as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    fn answer_from(bind: &str, asked: &str) {
        let server = UdpSocket::bind(bind).unwrap();
        enable(server.as_fd(), server.local_addr().unwrap().is_ipv6()).unwrap();
        let client = UdpSocket::bind(if asked.starts_with('[') { "[::1]:0" } else { "127.0.0.1:0" }).unwrap();
        client.connect((asked.trim_matches(['[', ']']), server.local_addr().unwrap().port())).unwrap();
        client.send(b"question").unwrap();
        let mut buf = [0u8; 64];
        let got = loop {
            match receive(server.as_fd(), &mut buf) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
                other => break other.unwrap(),
            }
        };
        assert_eq!(&buf[..got.length], b"question");
        send(server.as_fd(), b"answer", got.from, got.to).unwrap();
        // A connected client only hears the address it asked.
        client.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
        assert_eq!(client.recv(&mut buf).unwrap(), 6);
    }

    #[test]
    fn answers_come_from_the_address_asked() {
        answer_from("0.0.0.0:0", "127.0.0.77");
        if UdpSocket::bind("[::]:0").is_ok() {
            answer_from("[::]:0", "127.0.0.77");
            if UdpSocket::bind("[::1]:0").is_ok() {
                answer_from("[::]:0", "[::1]");
            }
        }
    }
}
