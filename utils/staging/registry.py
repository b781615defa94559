"""Which stagers there are. A new one is a file with its class and a line here.

Another package adds one by an entry point of the group `sleep_interpreter.stagers`. Both name what builds the
stager (`utils.staging.stagers.BuildStager`).
"""

from sleep_interpreter.utils.core.registry import Registry

STAGERS = Registry(
    "stager",
    "sleep_interpreter.stagers",
    {
        "yasa": "sleep_interpreter.utils.staging.stagers:YasaStager",
        "sistaging": "sleep_interpreter.utils.staging.stagers:SIStagingStager.build",
    },
    "sleep_interpreter.utils.staging.stagers:Stager",
)
