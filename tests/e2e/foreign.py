"""Exim and OpenSMTPD as peers. Their packages exclude each other and Postfix, so ci/setup unpacks
them below PEERS without installing them. What they have compiled in (users, configuration, spool)
they find in a mount namespace of their own, whose /etc, /var, /run and /usr/libexec are folders of
the test; the machine's are never touched, and what they start ends with them.
"""
import os
import shutil

from harness import Program, until

PEERS = '/opt/ringpost-peers'
# The machine's, as they are; what names users and configuration is made anew.
BORROWED = ('hosts', 'ld.so.cache', 'services', 'protocols', 'nsswitch.conf')
USERS = {'root': 0, 'nobody': 65534, 'mail': 8, 'Debian-exim': 901, 'opensmtpd': 902,
         'opensmtpq': 903}

# What starts the program, and stays: a namespace of processes ends with its first one, which ends
# with the test. The program itself may forget that order when it changes its user.
IN_NAMESPACE = '''
for name in etc run usr/libexec var; do mount --bind "$0/$name" "/$name" || exit 1; done
"$@"
exit $?
'''

EXIM = '''
primary_hostname = exim.test
exim_path = {program}
local_interfaces = {address} : {inside}
daemon_smtp_ports = 2525
host_lookup =
rfc1413_hosts =
keep_environment =
deliver_drop_privilege = true
tls_advertise_hosts = *
tls_certificate = /etc/mx.crt
tls_privatekey = /etc/mx.key
tls_require_ciphers = NORMAL
log_selector = +tls_cipher +tls_peerdn +tls_certificate_verified
acl_smtp_rcpt = rcpt
begin acl
rcpt:
    deny !encrypted = *
        condition = ${{if eq{{$received_ip_address}}{{{address}}}}}
        message = 5.7.10 by TLS alone
    accept
begin routers
out:
    driver = manualroute
    domains = {relayed}
    route_list = {routes}
    transport = out
    self = send
box:
    driver = accept
    transport = box
begin transports
out:
    driver = smtp
    port = 2525
    hosts_require_tls = *
    hosts_try_dane =
    tls_verify_hosts = *
    tls_verify_certificates = /etc/authority.pem
box:
    driver = appendfile
    directory = /var/mail/box
    maildir_format
    create_directory
    delivery_date_add = no
'''

OPENSMTPD = '''
pki ours cert "/etc/mx.crt"
pki ours key "/etc/mx.key"
listen on {address} port 2525 tls pki ours hostname opensmtpd.test
listen on {inside} port 2525 hostname opensmtpd.test
action "box" maildir "/var/mail/box" virtual {{ "@" = nobody }}
{actions}
match from any for any action "box"
'''


def lacks(name):
    """Why there is no such peer; None where there is one."""
    if os.geteuid() != 0:
        return f'{name} needs a mount namespace, and that needs root'
    if not os.path.isdir(os.path.join(PEERS, name)):
        return f'{name} is not below {PEERS}: run ci/setup'
    return None


class Foreign:
    """One such program. paper: the stem of its certificate's .crt and .key; authority: whom it
    trusts as a client; routes: domain -> address of the relay, port 2525, by TLS alone. All other
    mail goes into one mailbox. At .inside it takes mail without TLS."""
    name = None
    program = None

    def __init__(self, world, address, paper, authority, routes):
        self.address = address
        self.inside = world.address()
        self.path = os.path.join(world.short_path, self.name)
        os.chmod(world.short_path, 0o755)
        for folder in ('etc', 'run', 'usr/libexec', 'var/spool', 'var/log', 'var/mail', 'var/tmp', 'var/lib'):
            os.makedirs(os.path.join(self.path, folder))
        os.symlink('/run', os.path.join(self.path, 'var/run'))
        os.chmod(os.path.join(self.path, 'var/mail'), 0o1777)
        self.etc(paper, authority)
        self.configure(routes)
        folder = os.path.join(PEERS, self.name)
        argv = ['unshare', '--mount', '--propagation', 'private', '--pid', '--fork',
                '--kill-child', 'sh', '-c', IN_NAMESPACE, self.path]
        self.running = Program(argv + self.command(folder), world.path(f'{self.name}.log'))
        world.programs.append(self.running)

    def etc(self, paper, authority):
        for name in BORROWED:
            if os.path.exists('/etc/' + name):
                shutil.copy('/etc/' + name, os.path.join(self.path, 'etc', name))
        self.write('etc/passwd', ''.join(f'{user}:x:{number}:{number}::/:/bin/sh\n'
                                         for user, number in USERS.items()))
        self.write('etc/group', ''.join(f'{user}:x:{number}:\n' for user, number in USERS.items()))
        shutil.copy(paper + '.crt', os.path.join(self.path, 'etc/mx.crt'))
        shutil.copy(paper + '.key', os.path.join(self.path, 'etc/mx.key'))
        os.makedirs(os.path.join(self.path, 'etc/ssl/certs'))
        for name in 'etc/authority.pem', 'etc/ssl/certs/ca-certificates.crt':
            shutil.copy(authority, os.path.join(self.path, name))
            os.chmod(os.path.join(self.path, name), 0o644)

    def write(self, name, text):
        path = os.path.join(self.path, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, 'w', encoding='utf-8') as file:
            file.write(text)

    def mail(self, count):
        """The messages of the mailbox once there are so many."""
        folder = os.path.join(self.path, 'var/mail/box/new')

        def messages():
            names = os.listdir(folder) if os.path.isdir(folder) else []
            return len(names) >= count and [self.read(f'var/mail/box/new/{name}') for name in names]

        return until(messages, 30, f'{count} messages at {self.name}:\n{self.running.last_words()}')

    def read(self, name):
        with open(os.path.join(self.path, name), 'rb') as file:
            return file.read()


class Exim(Foreign):
    name = 'exim4'

    def configure(self, routes):
        os.chmod(os.path.join(self.path, 'etc/mx.key'), 0o640)
        os.chown(os.path.join(self.path, 'etc/mx.key'), 0, USERS['Debian-exim'])
        for folder in 'var/spool/exim4', 'var/log/exim4', 'run/exim4':
            os.makedirs(os.path.join(self.path, folder))
            os.chown(os.path.join(self.path, folder), USERS['Debian-exim'], USERS['Debian-exim'])
        self.write('etc/exim4/exim4.conf', EXIM.format(
            program=os.path.join(PEERS, self.name, 'usr/sbin/exim4'), address=self.address, inside=self.inside,
            relayed=' : '.join(routes) or '!*',
            routes=' ; '.join(f'{domain} {relay}' for domain, relay in routes.items())))

    def command(self, folder):
        return [os.path.join(folder, 'usr/sbin/exim4'), '-bdf', '-q5s']


class OpenSmtpd(Foreign):
    """As a server it cannot do TLS in Debian 12: its process for keys keeps the private key where
    OpenSSL 3 does not find it, so that it offers STARTTLS and every handshake fails."""
    name = 'opensmtpd'

    def configure(self, routes):
        os.chmod(os.path.join(self.path, 'etc/mx.key'), 0o600)
        shutil.copytree(os.path.join(PEERS, self.name, 'usr/libexec'),
                        os.path.join(self.path, 'usr/libexec'), dirs_exist_ok=True)
        os.makedirs(os.path.join(self.path, 'var/lib/opensmtpd/empty'))
        self.write('etc/smtpd.conf', OPENSMTPD.format(
            address=self.address, inside=self.inside, actions=''.join(
                f'action "to {domain}" relay host "smtp+tls://{relay}:2525"\n'
                f'match from any for domain "{domain}" action "to {domain}"\n'
                for domain, relay in routes.items())))

    def command(self, folder):
        return [os.path.join(folder, 'usr/sbin/smtpd'), '-d']
