"""stream: generate ahead, play on time, answer the controls. Four processes, and where to look for what:

    the parent      conductor  troupe  guard  hands  processes  mac
    the generator   generator  live  session  context  turns  themes  material  modulation  answer  listen
                    pace  ending  velocity  settings
    the player      playerproc  player  clock  sounding  sync  ports  record
    the watcher     watch
    between them    wire (what they say to each other)  shared (what the player shows)  log
    controls        controls  mapping  inputs  osc  keyboard
    to look at      screen  roll  status
    afterwards      replay
"""
