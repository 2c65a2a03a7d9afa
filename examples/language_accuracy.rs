fn main() {
    use std::collections::BTreeMap;
    let mut m: BTreeMap<String, (u32, u32, BTreeMap<String, u32>)> = BTreeMap::new();
    for f in std::env::args().skip(1) {
        for l in std::fs::read_to_string(&f).unwrap().lines() {
            let v: serde_json::Value = serde_json::from_str(l).unwrap();
            let lang = v["lang"].as_str().unwrap();
            let d = hearken::text::language::detect(v["text"].as_str().unwrap()).unwrap_or("-");
            let e = m.entry(lang.into()).or_default();
            e.0 += 1;
            if d == lang { e.1 += 1 } else { *e.2.entry(d.into()).or_default() += 1 }
        }
    }
    for (k, v) in m {
        println!("{k} {} {:.1}% {:?}", v.0, 100.0 * v.1 as f64 / v.0 as f64, v.2)
    }
}
