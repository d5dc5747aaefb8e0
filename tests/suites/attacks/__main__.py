"""Print the table, which the tests of this package hold to be true."""

from tests.suites.attacks.table import markdown

print(markdown())
