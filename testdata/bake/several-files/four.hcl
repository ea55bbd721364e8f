target "x" { args = { W = W * 2 } }
