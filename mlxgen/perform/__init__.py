"""stream: generate ahead, play on time, answer the controls. Four processes, and where to look for what:

    above them all  conductor  troupe  guard  hands  processes  mac
    drawing ahead   generator  live  session  context  turns  themes  material  modulation  practice  answer
                    listen  pace  ending  velocity  settings
    playing         playerproc  player  clock  sounding  sync  ports  record
    the port lost?  watch
    between them    wire (what they say to each other)  shared (what playing shows)  log
    turned by hand  controls  mapping  inputs  osc
    to look at      screen  roll  status  keyboard
    afterwards      replay
"""
