"""A Postfix of the test's own: its configuration, queue and mailboxes below the test's directory,
its SMTP server on an address of the test's own. The system's instance is never touched.
"""
import os
import pwd
import shutil
import subprocess

from harness import until

MAIN = '''compatibility_level = 3.6
queue_directory = {path}/queue
data_directory = {path}/data
maillog_file = {path}/log
maillog_file_prefixes = {path}
inet_interfaces = loopback-only
inet_protocols = ipv4
myhostname = postfix.test
mydestination =
mynetworks =
alias_maps =
alias_database =
virtual_mailbox_domains = {domains}
virtual_mailbox_maps = texthash:{path}/users
virtual_mailbox_base = {path}/mail
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
smtpd_recipient_restrictions = reject_unauth_destination {checks}
smtpd_client_connection_count_limit = 0
smtpd_peername_lookup = no
'''

MASTER = '''{address}:2525 inet n - n - 20 smtpd
postlog unix-dgram n - n - 1 postlogd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
'''


def is_installed():
    return os.geteuid() == 0 and os.path.exists('/usr/sbin/postfix')


class Postfix:
    def __init__(self, world, domains, users, checks=''):
        """checks: further smtpd_recipient_restrictions."""
        self.address = world.address()
        # Its users must reach the directory, whoever owns the directories above.
        self.path = os.path.join(world.short_path, 'postfix')
        os.chmod(world.short_path, 0o755)
        owner = pwd.getpwnam('nobody')
        for name in 'config', 'queue', 'data', 'mail':
            os.makedirs(os.path.join(self.path, name))
        shutil.chown(os.path.join(self.path, 'data'), 'postfix')
        shutil.chown(os.path.join(self.path, 'mail'), owner.pw_uid, owner.pw_gid)
        values = {'path': self.path, 'address': self.address, 'domains': ' '.join(domains), 'checks': checks,
                  'uid': owner.pw_uid, 'gid': owner.pw_gid}
        self.write('config/main.cf', MAIN.format(**values))
        self.write('config/master.cf', MASTER.format(**values))
        self.write('users', ''.join(f'{user}@{domain} {user}/\n'
                                    for user in users for domain in domains))
        self.run('start')
        world.at_end.append(lambda: self.run('abort'))
        until(lambda: self.run('status', check=False).returncode == 0, 20, 'Postfix to start')

    def write(self, name, text):
        with open(os.path.join(self.path, name), 'w', encoding='utf-8') as file:
            file.write(text)

    def run(self, verb, check=True):
        return subprocess.run(['/usr/sbin/postfix', '-c', os.path.join(self.path, 'config'), verb],
                              check=check, timeout=60, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL)

    def log(self):
        with open(os.path.join(self.path, 'log'), encoding='utf-8') as file:
            return file.read()

    def mail(self, user, count):
        """The user's messages once there are so many; None before."""
        folder = os.path.join(self.path, 'mail', user, 'new')
        names = os.listdir(folder) if os.path.isdir(folder) else []
        if len(names) < count:
            return None
        messages = []
        for name in names:
            with open(os.path.join(folder, name), 'rb') as file:
                messages.append(file.read())
        return messages
