"""Stage sleep, cue and decode in real time; here on a recorded file that stands in for the amplifier.

Every 5 s the last 30 s are staged; after 30 NREM detections in a row with P(N2) + P(N3) >= 0.8 a sound
is played every 4 to 6 s, and the EEG around it is decoded into one of the items (published: 2 s, 15 items).

Data:     any recording MNE reads, with EEG, EOG and EMG; decoding needs the decoder's channels too.
Paper:    real-time decoding, earlier version of the system: top-1 22.6 % (NREM), 20.4 % (REM) of 15.
Expect:   a folder results/realtime/<subject>/session_001 with log, hypnogram, sounds, figure and summary.
          With `--cues scheduled` on a file there is no accuracy: the file holds no response to our cues.

  python realtime/Main_Decode.py --source replay --recording night.edf --stager yasa
  python realtime/Main_Decode.py --source replay --recording tmr_night.vhdr --cues recorded \\
      --decoder-checkpoint "results/Decoding checkpoint/N2N3_SIMD/ensemble.npz"

Settings and their reasons: params/realtime.yaml. How it works: docs/realtime.md.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from any directory

from sleep_interpreter.realtime.Setup import command_line
from sleep_interpreter.utils.core.command_line import script

main = script(__name__, command_line.start, __doc__)
