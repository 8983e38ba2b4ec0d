//! French departments: share of the population and chief town (INSEE code, postal code).

pub struct Department {
    pub code: &'static str,
    /// Inhabitants, thousands (INSEE, about 2021).
    pub population: u32,
    /// INSEE code of the chief town.
    pub town_code: &'static str,
    pub town: &'static str,
    pub postal: &'static str,
}

macro_rules! departments {
    ($($code:literal $population:literal $town_code:literal $postal:literal $town:literal),* $(,)?) => {
        pub static DEPARTMENTS: &[Department] = &[$(Department {
            code: $code, population: $population, town_code: $town_code, town: $town, postal: $postal,
        }),*];
    };
}

departments![
    "01" 663 "01053" "01000" "Bourg-en-Bresse", "02" 527 "02408" "02000" "Laon",
    "03" 335 "03190" "03000" "Moulins", "04" 166 "04070" "04000" "Digne-les-Bains",
    "05" 141 "05061" "05000" "Gap", "06" 1104 "06088" "06000" "Nice",
    "07" 331 "07186" "07000" "Privas", "08" 269 "08105" "08000" "Charleville-Mézières",
    "09" 155 "09122" "09000" "Foix", "10" 311 "10387" "10000" "Troyes",
    "11" 376 "11069" "11000" "Carcassonne", "12" 279 "12202" "12000" "Rodez",
    "13" 2057 "13055" "13005" "Marseille", "14" 700 "14118" "14000" "Caen",
    "15" 144 "15014" "15000" "Aurillac", "16" 351 "16015" "16000" "Angoulême",
    "17" 661 "17300" "17000" "La Rochelle", "18" 301 "18033" "18000" "Bourges",
    "19" 240 "19272" "19000" "Tulle", "2A" 162 "2A004" "20000" "Ajaccio",
    "2B" 184 "2B033" "20200" "Bastia", "21" 535 "21231" "21000" "Dijon",
    "22" 606 "22278" "22000" "Saint-Brieuc", "23" 115 "23096" "23000" "Guéret",
    "24" 414 "24322" "24000" "Périgueux", "25" 546 "25056" "25000" "Besançon",
    "26" 520 "26362" "26000" "Valence", "27" 599 "27229" "27000" "Évreux",
    "28" 432 "28085" "28000" "Chartres", "29" 917 "29019" "29200" "Brest",
    "30" 756 "30189" "30000" "Nîmes", "31" 1434 "31555" "31000" "Toulouse",
    "32" 192 "32013" "32000" "Auch", "33" 1654 "33063" "33000" "Bordeaux",
    "34" 1201 "34172" "34000" "Montpellier", "35" 1098 "35238" "35000" "Rennes",
    "36" 217 "36044" "36000" "Châteauroux", "37" 613 "37261" "37000" "Tours",
    "38" 1284 "38185" "38000" "Grenoble", "39" 259 "39300" "39000" "Lons-le-Saunier",
    "40" 422 "40192" "40000" "Mont-de-Marsan", "41" 328 "41018" "41000" "Blois",
    "42" 768 "42218" "42000" "Saint-Étienne", "43" 228 "43157" "43000" "Le Puy-en-Velay",
    "44" 1457 "44109" "44000" "Nantes", "45" 684 "45234" "45000" "Orléans",
    "46" 175 "46042" "46000" "Cahors", "47" 331 "47001" "47000" "Agen",
    "48" 77 "48095" "48000" "Mende", "49" 821 "49007" "49000" "Angers",
    "50" 495 "50502" "50000" "Saint-Lô", "51" 564 "51454" "51100" "Reims",
    "52" 170 "52121" "52000" "Chaumont", "53" 306 "53130" "53000" "Laval",
    "54" 733 "54395" "54000" "Nancy", "55" 182 "55029" "55000" "Bar-le-Duc",
    "56" 768 "56260" "56000" "Vannes", "57" 1050 "57463" "57000" "Metz",
    "58" 203 "58194" "58000" "Nevers", "59" 2611 "59350" "59000" "Lille",
    "60" 830 "60057" "60000" "Beauvais", "61" 277 "61001" "61000" "Alençon",
    "62" 1462 "62041" "62000" "Arras", "63" 663 "63113" "63000" "Clermont-Ferrand",
    "64" 693 "64445" "64000" "Pau", "65" 230 "65440" "65000" "Tarbes",
    "66" 483 "66136" "66000" "Perpignan", "67" 1152 "67482" "67000" "Strasbourg",
    "68" 769 "68066" "68000" "Colmar", "69" 1894 "69123" "69003" "Lyon",
    "70" 233 "70550" "70000" "Vesoul", "71" 549 "71270" "71000" "Mâcon",
    "72" 567 "72181" "72000" "Le Mans", "73" 440 "73065" "73000" "Chambéry",
    "74" 841 "74010" "74000" "Annecy", "75" 2133 "75056" "75012" "Paris",
    "76" 1255 "76540" "76000" "Rouen", "77" 1438 "77288" "77000" "Melun",
    "78" 1457 "78646" "78000" "Versailles", "79" 375 "79191" "79000" "Niort",
    "80" 567 "80021" "80000" "Amiens", "81" 393 "81004" "81000" "Albi",
    "82" 263 "82121" "82000" "Montauban", "83" 1095 "83137" "83000" "Toulon",
    "84" 564 "84007" "84000" "Avignon", "85" 694 "85191" "85000" "La Roche-sur-Yon",
    "86" 440 "86194" "86000" "Poitiers", "87" 373 "87085" "87000" "Limoges",
    "88" 360 "88160" "88000" "Épinal", "89" 333 "89024" "89000" "Auxerre",
    "90" 140 "90010" "90000" "Belfort", "91" 1316 "91228" "91000" "Évry-Courcouronnes",
    "92" 1642 "92050" "92000" "Nanterre", "93" 1668 "93008" "93000" "Bobigny",
    "94" 1416 "94028" "94000" "Créteil", "95" 1256 "95500" "95300" "Pontoise",
    "971" 384 "97105" "97100" "Basse-Terre", "972" 361 "97209" "97200" "Fort-de-France",
    "973" 287 "97302" "97300" "Cayenne", "974" 871 "97411" "97400" "Saint-Denis",
    "976" 300 "97608" "97600" "Mamoudzou",
];

/// INSEE code of a commune: number 0 is the chief town, the others are plausible numbers of
/// the department (in Paris, the districts).
pub fn commune(department: &Department, number: u16) -> String {
    match (department.code, number) {
        (_, 0) => department.town_code.to_owned(),
        ("75", district) => format!("751{:02}", 1 + district % 20),
        (code, number) if code.len() == 3 => format!("{code}{:02}", 1 + number % 24),
        (code, number) => format!("{code}{:03}", number % 1000),
    }
}

/// « de Lille », « d'Angers », « du Mans ».
pub fn of_town(town: &str) -> String {
    match town.strip_prefix("Le ") {
        Some(rest) => format!("du {rest}"),
        None => of(town),
    }
}

/// « de » before a consonant, « d' » before a vowel.
pub fn of(word: &str) -> String {
    const VOWELS: [char; 13] = [
        'A', 'E', 'É', 'I', 'O', 'U', 'a', 'e', 'é', 'i', 'o', 'u', 'y',
    ];
    if word.starts_with(VOWELS) {
        format!("d'{word}")
    } else {
        format!("de {word}")
    }
}

/// Hospitals of a department: one, and one more per 400,000 inhabitants.
pub fn hospitals(department: &Department) -> usize {
    1 + department.population as usize / 400
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn communes_start_with_their_department() {
        assert_eq!(DEPARTMENTS.len(), 101);
        for department in DEPARTMENTS {
            for number in [0, 1, 17, 250] {
                let code = commune(department, number);
                assert_eq!(code.len(), 5, "{code}");
                assert!(code.starts_with(department.code), "{code}");
            }
        }
        assert_eq!(of_town("Le Mans"), "du Mans");
        assert_eq!(of_town("Évreux"), "d'Évreux");
        assert_eq!(of_town("La Rochelle"), "de La Rochelle");
        let population: u32 = DEPARTMENTS.iter().map(|d| d.population).sum();
        assert!((66_000..69_500).contains(&population), "{population}");
    }
}
