variable "L" { default = ["a", "b", "c"] }
variable "M" { default = { k1 = "v1", k2 = "v2" } }
variable "OBJS" { default = [{ n = "x", t = { d = 1 } }, { n = "y", t = { d = 2 } }] }
target "default" {
  args = {
    arith = 1 + 2 * 3 - 4 / 2 % 3
    neg = -3 + -(2)
    cmp = 1 < 2 && 2 <= 2 && 3 > 2 && 3 >= 3 && !(1 == 2) && 1 != 2
    logic = false || true && !false
    str_num = "5" + 2
    eq_types = "1" == 1
    cond = length(L) > 2 ? "many" : "few"
    cond_mixed = true ? 1 : "x"
    index = L[1]
    legacy = L.2
    key = M["k1"]
    attr = M.k2
    splat = join(",", OBJS[*].n)
    attr_splat = join(",", OBJS.*.t.d)
    full = join(",", [for d in OBJS[*].t : d.d])
    single = join(",", M.k1[*])
    for_list = join(",", [for i, v in L : "${i}${v}" if v != "b"])
    for_obj = jsonencode({ for k, v in M : upper(k) => v })
    for_group = jsonencode({ for v in ["aa", "ab", "b"] : substr(v, 0, 1) => v... })
    nested = jsonencode([for o in OBJS : { for k, v in o : k => v if k != "t" }])
    paren = (1 + 2) * 3
    float = 1.5 * 2
    third = 7 / 2
    big = 9007199254740993 + 0
    exp = 1e3
    objkey = { (L[0]) = 1 }["a"]
    trailing = [1, 2, 3,][2]
    multi = (
      1 +
      2
    )
    null_eq = null == null
    tupleeq = [1, 2] == [1, 2]
    objeq = { a = 1 } == { a = 1 }
    short = false && [][0]
  }
}
