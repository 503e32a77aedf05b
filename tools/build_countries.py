"""Write the demonstration graph ``countries.tsv`` from the PyPI package ``countryinfo`` 1.0.1 (MIT).

    python tools/build_countries.py [OUTPUT]

The 193 member states of the United Nations and the two observer states, with plain facts: capital, land borders,
official languages, currency, subregion, continent, internet domain and calling code. Codes become names, and known
mistakes of the source are corrected below, each in one place, so that the file can be rebuilt byte for byte. The
result is a snapshot for demonstrations and tests, not a reference work.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

OUTPUT = Path(__file__).resolve().parents[1] / "src" / "kgr1" / "datasets" / "embedded" / "countries.tsv"

# Dependent and disputed territories, and states that are gone.
NOT_INCLUDED = {
    "ABW", "AIA", "ALA", "ANT", "ASM", "ATA", "ATF", "BES", "BLM", "BMU", "BVT", "CCK", "COK", "CUW", "CXR",
    "CYM", "ESH", "FLK", "FRO", "GGY", "GIB", "GLP", "GRL", "GUF", "GUM", "HKG", "HMD", "IMN", "IOT", "JEY",
    "MAC", "MAF", "MNP", "MSR", "MTQ", "MYT", "NCL", "NFK", "NIU", "PCN", "PRI", "PYF", "REU", "SCG", "SGS",
    "SHN", "SJM", "SPM", "SXM", "TCA", "TKL", "TWN", "UMI", "VGB", "VIR", "WLF",
}  # fmt: skip

COUNTRY_NAMES = {
    "BHS": "Bahamas",
    "CZE": "Czechia",
    "GMB": "Gambia",
    "MKD": "North Macedonia",
    "SWZ": "Eswatini",
    "VAT": "Vatican City",
}

# None: a city state has no capital besides itself. Names that a country bears too are told apart.
CAPITALS: dict[str, str | None] = {
    "BDI": "Gitega",
    "DJI": "Djibouti City",
    "KAZ": "Astana",
    "LKA": "Sri Jayawardenepura Kotte",
    "LUX": "Luxembourg City",
    "MCO": None,
    "SGP": None,
    "SMR": "City of San Marino",
    "SWZ": "Mbabane",
    "VAT": None,
}

LANGUAGES_OF = {
    "AND": ["ca"],
    "ARG": ["es"],
    "ARM": ["hy"],
    "AZE": ["az"],
    "BLZ": ["en"],
    "BDI": ["rn", "fr", "en"],
    "BFA": ["fr"],
    "BOL": ["es", "ay", "qu", "gn"],
    "COD": ["fr"],
    "COG": ["fr"],
    "CYP": ["el", "tr"],
    "CZE": ["cs"],
    "DZA": ["ar", "ber"],
    "FJI": ["en", "fj", "hi"],
    "GIN": ["fr"],
    "GNQ": ["es", "fr", "pt"],
    "ISR": ["he"],
    "KIR": ["en", "gil"],
    "LBN": ["ar"],
    "MAR": ["ar", "ber"],
    "MKD": ["mk", "sq"],
    "MYS": ["ms"],
    "NAM": ["en"],
    "NOR": ["no"],
    "PER": ["es", "qu", "ay"],
    "PHL": ["fil", "en"],
    "PLW": ["pau", "en"],
    "SRB": ["sr"],
    "TJK": ["tg"],
    "TKM": ["tk"],
    "TLS": ["pt", "tet"],
    "TUV": ["tvl", "en"],
    "UZB": ["uz"],
    "VAT": ["it"],
    "ZAF": ["af", "en", "nr", "nso", "st", "ss", "tn", "ts", "ve", "xh", "zu"],
    "AFG": ["ps", "fa"],
}

LANGUAGES = {
    "af": "Afrikaans", "am": "Amharic", "ar": "Arabic", "ay": "Aymara", "az": "Azerbaijani", "be": "Belarusian",
    "ber": "Berber", "bg": "Bulgarian", "bi": "Bislama", "bn": "Bengali", "bs": "Bosnian", "ca": "Catalan",
    "cnr": "Montenegrin", "cs": "Czech", "da": "Danish", "de": "German", "dv": "Dhivehi", "dz": "Dzongkha",
    "el": "Greek", "en": "English", "es": "Spanish", "et": "Estonian", "fa": "Persian", "fi": "Finnish",
    "fil": "Filipino", "fj": "Fijian", "fr": "French", "ga": "Irish", "gil": "Gilbertese", "gn": "Guarani",
    "he": "Hebrew", "hi": "Hindi", "hr": "Croatian", "ht": "Haitian Creole", "hu": "Hungarian", "hy": "Armenian",
    "id": "Indonesian", "is": "Icelandic", "it": "Italian", "ja": "Japanese", "ka": "Georgian", "kk": "Kazakh",
    "km": "Khmer", "ko": "Korean", "ku": "Kurdish", "ky": "Kyrgyz", "lb": "Luxembourgish", "lo": "Lao",
    "lt": "Lithuanian", "lv": "Latvian", "mg": "Malagasy", "mh": "Marshallese", "mi": "Māori", "mk": "Macedonian",
    "mn": "Mongolian", "ms": "Malay", "mt": "Maltese", "my": "Burmese", "na": "Nauruan", "nd": "Northern Ndebele",
    "ne": "Nepali", "nl": "Dutch", "no": "Norwegian", "nr": "Southern Ndebele", "nso": "Northern Sotho",
    "ny": "Chichewa", "pau": "Palauan", "pl": "Polish", "ps": "Pashto", "pt": "Portuguese", "qu": "Quechua",
    "rn": "Kirundi", "ro": "Romanian", "ru": "Russian", "rw": "Kinyarwanda", "sg": "Sango", "si": "Sinhala",
    "sk": "Slovak", "sl": "Slovene", "sm": "Samoan", "sn": "Shona", "so": "Somali", "sq": "Albanian",
    "sr": "Serbian", "ss": "Swazi", "st": "Southern Sotho", "sv": "Swedish", "sw": "Swahili", "ta": "Tamil",
    "tet": "Tetum", "tg": "Tajik", "th": "Thai", "ti": "Tigrinya", "tk": "Turkmen", "tn": "Tswana", "to": "Tongan",
    "tr": "Turkish", "ts": "Tsonga", "tvl": "Tuvaluan", "uk": "Ukrainian", "ur": "Urdu", "uz": "Uzbek",
    "ve": "Venda", "vi": "Vietnamese", "xh": "Xhosa", "zh": "Chinese", "zu": "Zulu",
}  # fmt: skip

# Bulgaria and Croatia joined the euro after the source was written; Haiti's dollar is no legal tender, the colón of
# El Salvador is out of use.
CURRENCIES_OF = {"BGR": ["EUR"], "HRV": ["EUR"], "HTI": ["HTG"], "SLV": ["USD"]}

# Units of account and withdrawn coins, which nobody pays with.
NOT_MONEY = {"BOV", "CHE", "CHW", "CLF", "CUC", "USN", "USS", "UYI"}

CURRENCIES = {
    "AED": "Emirati dirham", "AFN": "Afghan afghani", "ALL": "Albanian lek", "AMD": "Armenian dram",
    "AOA": "Angolan kwanza", "ARS": "Argentine peso", "AUD": "Australian dollar", "AZN": "Azerbaijani manat",
    "BAM": "Bosnian convertible mark", "BBD": "Barbadian dollar", "BDT": "Bangladeshi taka",
    "BHD": "Bahraini dinar", "BIF": "Burundian franc", "BND": "Brunei dollar", "BOB": "Boliviano",
    "BRL": "Brazilian real", "BSD": "Bahamian dollar", "BTN": "Bhutanese ngultrum", "BWP": "Botswana pula",
    "BYR": "Belarusian ruble", "BZD": "Belize dollar", "CAD": "Canadian dollar", "CDF": "Congolese franc",
    "CHF": "Swiss franc", "CLP": "Chilean peso", "CNY": "Chinese yuan", "COP": "Colombian peso",
    "CRC": "Costa Rican colón", "CUP": "Cuban peso", "CVE": "Cape Verdean escudo", "CZK": "Czech koruna",
    "DJF": "Djiboutian franc", "DKK": "Danish krone", "DOP": "Dominican peso", "DZD": "Algerian dinar",
    "EGP": "Egyptian pound", "ERN": "Eritrean nakfa", "ETB": "Ethiopian birr", "EUR": "Euro",
    "FJD": "Fijian dollar", "GBP": "Pound sterling", "GEL": "Georgian lari", "GHS": "Ghanaian cedi",
    "GMD": "Gambian dalasi", "GNF": "Guinean franc", "GTQ": "Guatemalan quetzal", "GYD": "Guyanese dollar",
    "HNL": "Honduran lempira", "HTG": "Haitian gourde", "HUF": "Hungarian forint", "IDR": "Indonesian rupiah",
    "ILS": "Israeli shekel", "INR": "Indian rupee", "IQD": "Iraqi dinar", "IRR": "Iranian rial",
    "ISK": "Icelandic króna", "JMD": "Jamaican dollar", "JOD": "Jordanian dinar", "JPY": "Japanese yen",
    "KES": "Kenyan shilling", "KGS": "Kyrgyzstani som", "KHR": "Cambodian riel", "KMF": "Comorian franc",
    "KPW": "North Korean won", "KRW": "South Korean won", "KWD": "Kuwaiti dinar", "KZT": "Kazakhstani tenge",
    "LAK": "Lao kip", "LBP": "Lebanese pound", "LKR": "Sri Lankan rupee", "LRD": "Liberian dollar",
    "LSL": "Lesotho loti", "LYD": "Libyan dinar", "MAD": "Moroccan dirham", "MDL": "Moldovan leu",
    "MGA": "Malagasy ariary", "MKD": "Macedonian denar", "MMK": "Myanmar kyat", "MNT": "Mongolian tögrög",
    "MRO": "Mauritanian ouguiya", "MUR": "Mauritian rupee", "MVR": "Maldivian rufiyaa", "MWK": "Malawian kwacha",
    "MXN": "Mexican peso", "MYR": "Malaysian ringgit", "MZN": "Mozambican metical", "NAD": "Namibian dollar",
    "NGN": "Nigerian naira", "NIO": "Nicaraguan córdoba", "NOK": "Norwegian krone", "NPR": "Nepalese rupee",
    "NZD": "New Zealand dollar", "OMR": "Omani rial", "PAB": "Panamanian balboa", "PEN": "Peruvian sol",
    "PGK": "Papua New Guinean kina", "PHP": "Philippine peso", "PKR": "Pakistani rupee", "PLN": "Polish złoty",
    "PYG": "Paraguayan guaraní", "QAR": "Qatari riyal", "RON": "Romanian leu", "RSD": "Serbian dinar",
    "RUB": "Russian ruble", "RWF": "Rwandan franc", "SAR": "Saudi riyal", "SBD": "Solomon Islands dollar",
    "SCR": "Seychellois rupee", "SDG": "Sudanese pound", "SEK": "Swedish krona", "SGD": "Singapore dollar",
    "SLL": "Sierra Leonean leone", "SOS": "Somali shilling", "SRD": "Surinamese dollar",
    "SSP": "South Sudanese pound", "STD": "São Tomé dobra", "SYP": "Syrian pound", "SZL": "Swazi lilangeni",
    "THB": "Thai baht", "TJS": "Tajikistani somoni", "TMT": "Turkmenistan manat", "TND": "Tunisian dinar",
    "TOP": "Tongan paʻanga", "TRY": "Turkish lira", "TTD": "Trinidad and Tobago dollar", "TZS": "Tanzanian shilling",
    "UAH": "Ukrainian hryvnia", "UGX": "Ugandan shilling", "USD": "US dollar", "UYU": "Uruguayan peso",
    "UZS": "Uzbekistani sum", "VEF": "Venezuelan bolívar", "VND": "Vietnamese dong", "VUV": "Vanuatu vatu",
    "WST": "Samoan tala", "XAF": "Central African CFA franc", "XCD": "East Caribbean dollar",
    "XOF": "West African CFA franc", "YER": "Yemeni rial", "ZAR": "South African rand", "ZMK": "Zambian kwacha",
}  # fmt: skip

# A border counts if both sides state it. Stated by one side only, but real:
BORDERS_ADDED = [
    ("IND", "MMR"),
    ("IRQ", "KWT"),
    ("ITA", "VAT"),
    ("NPL", "CHN"),
    ("PSE", "EGY"),
    ("PSE", "ISR"),
    ("PSE", "JOR"),
    ("SDN", "TCD"),
]
# Stated by both sides, but across the sea:
BORDERS_DROPPED = [("IND", "LKA")]

SUBREGIONS = {"MNE": "Southern Europe", "SRB": "Southern Europe"}

CALLING_CODES: dict[str, list[str]] = {"KAZ": ["7"], "VAT": []}


def read_source() -> dict[str, dict[str, Any]]:
    """Records of the package by three-letter code; the first file wins where two describe the same country."""
    records: dict[str, dict[str, Any]] = {}
    folder = files("countryinfo") / "data"
    for entry in sorted(folder.iterdir(), key=lambda item: item.name):
        if entry.name.endswith(".json"):
            record = json.loads(entry.read_text("utf-8"))
            records.setdefault(record["ISO"]["alpha3"], record)
    return {code: record for code, record in sorted(records.items()) if code not in NOT_INCLUDED}


def facts(records: dict[str, dict[str, Any]]) -> Iterator[tuple[str, str, str]]:
    """The triples of the graph, in no particular order."""
    names = {code: COUNTRY_NAMES.get(code, record["name"]) for code, record in records.items()}
    for code, record in records.items():
        name = names[code]
        capital = CAPITALS.get(code, record["capital"])
        if capital is not None:
            yield name, "capital", capital
        for language in LANGUAGES_OF.get(code, record["languages"]):
            yield name, "official language", LANGUAGES[language]
        for currency in CURRENCIES_OF.get(code, record["currencies"]):
            if currency not in NOT_MONEY:
                yield name, "currency", CURRENCIES[currency]
        subregion = SUBREGIONS.get(code) or record.get("intermediateregion") or record["subregion"]
        continent = continent_of(record["region"], subregion)
        yield name, "located in", subregion
        yield name, "continent", continent
        if subregion != continent:
            yield subregion, "part of", continent
        yield name, "internet domain", record["tld"][0]
        for digits in CALLING_CODES.get(code, record["callingCodes"]):
            yield name, "calling code", calling_code(digits)
    for one, other in borders(records):
        yield names[one], "borders", names[other]
        yield names[other], "borders", names[one]


def continent_of(region: str, subregion: str) -> str:
    """Continent of a country; the source has one region for both Americas."""
    if region != "Americas":
        return region
    return "South America" if subregion == "South America" else "North America"


def calling_code(digits: str) -> str:
    """``43`` -> ``+43``; members of the North American plan get a blank after the 1."""
    digits = digits.replace("-", "")
    return f"+1 {digits[1:]}" if digits.startswith("1") and len(digits) > 1 else f"+{digits}"


def borders(records: dict[str, dict[str, Any]]) -> list[tuple[str, str]]:
    """Pairs of codes, each pair once."""
    stated = {(code, other) for code, record in records.items() for other in record["borders"] if other in records}
    both = {(one, other) for one, other in stated if one < other and (other, one) in stated}
    both |= {(min(pair), max(pair)) for pair in BORDERS_ADDED}
    return sorted(both - {(min(pair), max(pair)) for pair in BORDERS_DROPPED})


def main(output: Path) -> None:
    """Write the file whole or not at all."""
    text = "".join("\t".join(triple) + "\n" for triple in sorted(set(facts(read_source()))))
    with tempfile.NamedTemporaryFile("wb", dir=output.parent, delete=False) as stream:
        stream.write(text.encode("utf-8"))
        stream.flush()
        os.fsync(stream.fileno())
    os.chmod(stream.name, 0o644)
    os.replace(stream.name, output)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else OUTPUT)
