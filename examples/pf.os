# Fingerprints of operating systems for `os` in rules: copy this file to /etc/pf.os.
#
# A line is  window:ttl:df:size:options:class:version:subtype:description  (pf.os(5)).
# The first line that fits the SYN of a connection names its sender.
#
#   window   a number, * for any, %N a multiple of N, SN times the MSS, TN times the MSS and 40
#   ttl      time to live with which the system sends; up to 40 routers may have taken from it
#   df       1 when packets must not be fragmented
#   size     octets of the SYN as an IPv4 packet; * and %N as above
#   options  M maximum segment size, S selective acknowledgements, T timestamp (T0: it is zero),
#            W window scale, N nothing; in their order, or . for none
#
# The values are those that the default settings of each system give on Ethernet.

# Linux: the window is a multiple of the MSS, 64240 octets with an MSS of 1460.
S44:64:1:60:M*,S,T,N,W7:Linux:4.19 and newer::Linux 4.19 and newer
S44:64:1:60:M*,S,T,N,W8:Linux:4.19 and newer::Linux with a larger receive buffer
S44:64:1:60:M*,S,T,N,W9:Linux:4.19 and newer::Linux with a larger receive buffer
S44:64:1:60:M*,S,T,N,W10:Linux:4.19 and newer::Linux with a larger receive buffer
S20:64:1:60:M*,S,T,N,W7:Linux:3.x::Linux 2.6.39 to 4.18
S20:64:1:60:M*,S,T,N,W8:Linux:3.x::Linux 2.6.39 to 4.18
S10:64:1:60:M*,S,T,N,W7:Linux:3.x::Linux 3.0 to 4.18
S4:64:1:60:M*,S,T,N,W7:Linux:2.6::Linux 2.6
65535:64:1:60:M*,S,T,N,W*:Linux:Android::Android and ChromeOS

# Windows
64240:128:1:52:M*,N,W8,N,N,S:Windows:10::Windows 10 and 11
65535:128:1:52:M*,N,W8,N,N,S:Windows:10::Windows 10 and 11
8192:128:1:52:M*,N,W8,N,N,S:Windows:7::Windows 7 and 8
8192:128:1:52:M*,N,W2,N,N,S:Windows:7::Windows Vista and 7
65535:128:1:48:M*,N,N,S:Windows:XP::Windows XP
16384:128:1:48:M*,N,N,S:Windows:2000::Windows 2000

# BSD
65535:64:1:60:M*,N,W6,S,T:FreeBSD:9 and newer::FreeBSD 9 and newer
65535:64:1:60:M*,N,W7,S,T:FreeBSD:9 and newer::FreeBSD 9 and newer
16384:64:1:64:M*,N,N,S,N,W6,N,N,T:OpenBSD:6 and newer::OpenBSD 6 and newer
16384:64:1:64:M*,N,N,S,N,W3,N,N,T:OpenBSD:5::OpenBSD 4.9 to 5.x
32768:64:1:64:M*,N,W3,S,N,N,N,N,T:NetBSD:6 and newer::NetBSD 6 and newer

# Apple
65535:64:1:64:M*,N,W6,N,N,T,S:MacOS:10.14 and newer::macOS and iOS
65535:64:1:64:M*,N,W5,N,N,T,S:MacOS:10.9::macOS 10.9 to 10.13
65535:64:1:64:M*,N,W4,N,N,T,S:MacOS:10.6::macOS 10.6 to 10.8

# Scanners make their SYNs themselves.
1024:255:0:44:M1460:NMAP:syn scan::nmap -sS
2048:255:0:44:M1460:NMAP:syn scan::nmap -sS
3072:255:0:44:M1460:NMAP:syn scan::nmap -sS
4096:255:0:44:M1460:NMAP:syn scan::nmap -sS
1024:255:0:40:.:Scanner:bare SYN::masscan and ZMap without options
65535:255:0:40:.:Scanner:bare SYN::ZMap
