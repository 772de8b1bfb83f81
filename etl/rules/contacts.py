"""Contact data: e-mail addresses, phone numbers, IP addresses."""

import ipaddress
import re
import unicodedata

import phonenumbers

from common.errors import ConfigurationError
from etl.rules.personal_data import (
    PERHAPS_OTHER_DIGITS,
    Match,
    PersonalData,
    has_digits,
    merged,
    rule_maker,
)
from etl.rules.phone_look_alikes import NUMBERED, is_no_phone
from etl.rules.signs import Flags, Signs
from schemas.cleaning import PhoneRule

# A local part begins where no character of one precedes it, so that it is tried once; a domain has at least two
# labels, the last of them letters.
EMAIL = re.compile(
    r"(?<![\w.+%-])[\w.+%-]{1,64}@(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,10}"
    r"(?:xn--[a-zA-Z0-9-]{1,58}[a-zA-Z0-9]|[^\W\d_]{2,24})(?![^\W_])"
)


class Emails(PersonalData):
    """E-mail addresses."""

    kind = "email"

    def may_concern(self, signs: Signs) -> Flags:
        return signs.any_of(b"@")

    def find(self, text: str) -> list[Match]:
        if "@" not in text:
            return []
        return [Match(*match.span(), self.kind, match.group()) for match in EMAIL.finditer(text)]

    def normal(self, value: str) -> str:
        return unicodedata.normalize("NFKC", value).casefold()


class Phones(PersonalData):
    """Phone numbers that exist in the numbering plans of the `phonenumbers` library, in any common notation.

    The library's search is slow, so it sees only the surroundings of runs with enough digits for a number.
    """

    AROUND = 30
    kind = "phone"

    def __init__(self, settings: PhoneRule) -> None:
        super().__init__(settings)
        self.regions = settings.regions
        self.look_alikes = [re.compile(pattern) for pattern in settings.look_alikes]
        digits = min(map(_fewest_digits, settings.regions), default=99)
        self.digits, self.fewest = digits, min(digits, 7)
        between = r"[ \t().\-/\u2010-\u2015\u00a0]{0,4}"
        # It begins with a set of characters, for which `re` searches much faster than for an alternative; then it
        # looks back: 7 digits behind a plus sign, or fewer of which the first has no digit before it.
        self.candidate = re.compile(
            rf"[+\d](?:(?<=\+){between}(?:\d{between}){{6,}}\d"
            rf"|(?<=\d)(?<!\d\d){between}(?:\d{between}){{{digits - 2},}}\d)"
        )

    def may_concern(self, signs: Signs) -> Flags:
        concerned: Flags = (signs.digits >= self.fewest) | signs.any_of(PERHAPS_OTHER_DIGITS)
        return concerned

    def find(self, text: str) -> list[Match]:
        if not has_digits(text, self.fewest):
            return []
        candidates = [match.span() for match in self.candidate.finditer(text)]
        found: list[Match] = []
        for start, end in merged([(max(a - self.AROUND, 0), b + self.AROUND) for a, b in candidates]):
            window = text[start:end]
            for region in self.regions:
                # Each try moves on, so that the whole window is searched.
                tries = max(len(window), 1)
                for match in phonenumbers.PhoneNumberMatcher(window, region, max_tries=tries):
                    begin, stop = start + match.start, start + match.end
                    if not is_no_phone(match.raw_string, text, begin, stop, self.look_alikes):
                        number = phonenumbers.format_number(match.number, phonenumbers.PhoneNumberFormat.E164)
                        found.append(Match(begin, stop, self.kind, number))
        return found


def _fewest_digits(region: str) -> int:
    """Return the digits of the shortest number that can be written without its country code in a region."""
    metadata = phonenumbers.PhoneMetadata.metadata_for_region(region)
    if metadata is None or metadata.general_desc is None:
        raise ConfigurationError(
            f"clean.phones.regions names {region!r}, which is no region with phone numbers"
        )
    return max(min(metadata.general_desc.possible_length), 5)


# The first digit stands before what may not precede it, for the speed of the search.
IPV4 = re.compile(r"\d(?<![\w.]\d)\d{0,2}\.\d{1,3}\.\d{1,3}\.\d{1,3}(?!\w|\.\d)", re.ASCII)
IPV6 = re.compile(
    r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}(?:(?:\d{1,3}\.){3}\d{1,3}|[0-9A-Fa-f]{0,4})(?![\w:]|\.\d)",
    re.ASCII,
)
ADDRESSED = re.compile(
    r"\b(?:ip|ipv4|address|addresses|host|hosts|server|gateway|dns|ping|netmask)\W[^.\n]{0,20}\Z",
    re.IGNORECASE,
)


SECTION = re.compile(r"[.)]*[ \t]*(?:\r?\n|\Z)|[.)]*[ \t]+[^\W\d_]|[.)]*[ \t]+[\"'“‘«(]\w")


class IpAddresses(PersonalData):
    """IPv4 and IPv6 addresses. Numbers of versions and sections (`version 1.2.3.4`, `2.0.0.1`) stay."""

    kind = "ip"

    def may_concern(self, signs: Signs) -> Flags:
        concerned: Flags = ((signs.digits >= 4) & (signs.sums(b".") >= 3)) | (signs.sums(b":") >= 2)
        return concerned

    def find(self, text: str) -> list[Match]:
        found = [match for match in IPV4.finditer(text) if _is_ipv4(match)] if may_have_ipv4(text) else []
        if "::" in text or text.count(":") >= 6:
            found += [match for match in IPV6.finditer(text) if _is_ipv6(match.group())]
        return [Match(*match.span(), self.kind, match.group()) for match in found]

    def normal(self, value: str) -> str:
        return str(ipaddress.ip_address(value))


def may_have_ipv4(text: str) -> bool:
    return text.count(".") >= 3 and has_digits(text, 4)


def _is_ipv4(match: "re.Match[str]") -> bool:
    number = match.group()
    try:
        ipaddress.IPv4Address(number)
    except ValueError:
        return False
    before = match.string[max(match.start() - 40, 0) : match.start()]
    if ADDRESSED.search(before):
        return True
    begins_line = not before.rpartition("\n")[2].strip()
    small = all(0 < int(part) < 50 for part in number.split("."))
    if begins_line and small and SECTION.match(match.string, match.end()):
        return False  # the number of a section, `3.1.12.1. Words`, and not the beginning of a log, `10.1.2.30 - - [`
    # Addresses out of four single digits are rare, versions out of them are not.
    return len(number) > len("1.2.3.4") and NUMBERED.search(before) is None


def _is_ipv6(candidate: str) -> bool:
    try:
        ipaddress.IPv6Address(candidate)
    except ValueError:
        return False
    # `::` alone, `a::b` or `::add` are names of C++. A shortened address has a digit and two groups, or is ::1.
    groups = [group for group in candidate.split(":") if group]
    return candidate == "::1" or (len(groups) >= 2 and any(character.isdigit() for character in candidate))


RULES = {
    "emails": rule_maker(Emails),
    "phones": rule_maker(Phones),
    "ip_addresses": rule_maker(IpAddresses),
}
